"""A complete run: find the data, train, measure the best weights, assemble the artifact, publish it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from chexvision.artifact.contents import RunInfo, TeacherInfo
from chexvision.artifact.metrics_file import Evaluation
from chexvision.artifact.store import Publication, open_store
from chexvision.config.recipe import Recipe
from chexvision.evaluation.parts import shared_image_notes
from chexvision.hub.reference import Reference
from chexvision.provenance import Provenance, now
from chexvision.tracking.figures import without_paths
from chexvision.tracking.tracker import FOLDER as TRACKING
from chexvision.tracking.tracker import Tracker
from chexvision.training.checkpoint import Saving
from chexvision.training.hardware import describe, package_versions, rank_of, start_accelerator
from chexvision.training.loop import Training
from chexvision.training.processes import check_same_versions
from chexvision.training.reporter import RunReporter
from chexvision.training.result.artifact_folder import write_artifact
from chexvision.training.result.measured_run import measure_best, predict_best
from chexvision.training.start.distillation import with_teacher
from chexvision.training.start.prepared import Prepared, prepare
from chexvision.training.training_session import TrainingProgress


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """How a run ended.

    Args:
        finished: False if it was stopped early, its state saved.
        artifact: the folder of what a run publishes; on the main process of a finished run.
        publication: where it was published, if it was.
        metrics: of the published weights.
    """

    finished: bool
    artifact: Path | None = None
    publication: Publication | None = None
    metrics: Evaluation | None = None


def run_training(
    recipe: Recipe,
    data: Reference | None,
    work: Path,
    provenance: Provenance,
    progress: TrainingProgress,
    to: Reference | None = None,
    *,
    private: bool = False,
    export: bool = False,
    saving: Saving | None = None,
) -> TrainingOutcome:
    """Train a recipe and leave the complete artifact in ``work/artifact``.

    Every process of a run in several calls this. A run that was stopped continues when it is called again with the
    same `work`.

    Args:
        recipe: what to compute.
        data: a folder of shards, or a Hub dataset pinned to a sha; None for what the recipe names.
        work: folder of this run's state, history and artifact, which only the first process uses.
        provenance: which run this is.
        progress: of the session, which decides when to end early.
        to: where to publish, if anywhere.
        private: whether a repository that has to be created is seen by its owner alone.
        export: whether the artifact contains the model as ONNX, too; where that fails it is published without.
        saving: when the state is saved within an epoch; see `Training`.

    Raises:
        UsageError: the data is not pinned, empty, or not what the recipe needs.
        ChexError: data, hardware or destination failed.
    """
    started_at = now()
    accelerator = start_accelerator(recipe.training.precision)
    check_same_versions(rank_of(accelerator))
    with _tracker(recipe, data, work, provenance, accelerator) as tracker:
        prepared = prepare(recipe, data, accelerator)
        reporter = _reporter(recipe, prepared, progress, tracker) if accelerator.is_main_process else None
        prepared.splits["train"], teacher = with_teacher(recipe, prepared.splits, accelerator, work)
        used = (prepared.splits["train"], prepared.splits["validation"])
        stop = progress.session.should_stop
        training = Training(recipe, prepared.model, *used, accelerator, work, reporter, stop, saving)
        finished = training.run()
    if not finished:
        accelerator.end_training()
        progress.session.paused()
        return TrainingOutcome(finished=False)
    predicted = predict_best(training, prepared.splits, recipe.optim.micro_batch_size)
    # Here, where all processes are: one that exits inside its group may abort, and end the one that publishes.
    accelerator.end_training()
    if not accelerator.is_main_process:
        return TrainingOutcome(finished=True)
    measured = measure_best(training, prepared, predicted)
    info = _run_info(training, prepared, provenance, teacher, started_at)
    folder = work / "artifact"
    train = prepared.splits["train"]
    events = work / TRACKING
    write_artifact(
        folder, training.model, training.history, train, predicted, measured, info, to, events, export=export
    )
    progress.trained(folder)
    published = open_store(to, private=private).publish(folder, provenance.run_id) if to is not None else None
    progress.session.published(published.reference if published is not None else None)
    return TrainingOutcome(True, folder, published, measured.evaluation)


def _reporter(recipe: Recipe, prepared: Prepared, progress: TrainingProgress, tracker: Tracker) -> RunReporter:
    """Reports the run, of which the weights and images that data sets share come first."""
    reporter = RunReporter(progress, recipe, tracker, prepared.splits["train"].images_per_epoch)
    if prepared.model.initialized is not None:
        reporter.initialized(prepared.model.initialized)
    for note in shared_image_notes(recipe.name, prepared.splits):
        print(f"note: {note}", flush=True)
    return reporter


def _run_info(
    training: Training, prepared: Prepared, provenance: Provenance, teacher: TeacherInfo | None, started_at: str
) -> RunInfo:
    """The record of a run that has ended."""
    found = prepared.data
    return RunInfo(
        provenance=provenance,
        recipe=training.recipe,
        dataset=found.name,
        dataset_identity=found.identity,
        split=found.record,
        datasets=found.trained_on(prepared.splits["train"]),
        terms=found.terms,
        weights=prepared.model.initialized,
        hardware=describe(training.accelerator),
        versions=package_versions(),
        started_at=started_at,
        finished_at=now(),
        train_seconds=round(sum(record.train_seconds for record in training.history), 1),
        teacher=teacher,
    )


def _tracker(
    recipe: Recipe, data: Reference | None, work: Path, provenance: Provenance, accelerator: Accelerator
) -> Tracker:
    """What the first of several processes sends its figures to."""
    sink = recipe.training.track if accelerator.is_main_process else "none"
    config = recipe.model_dump(mode="json")
    if data is not None:  # in place of what the recipe names
        config["data"]["dataset"] = str(data)
    run = {"run_id": provenance.run_id, "group": recipe.name, "config": without_paths(config)}
    return Tracker(sink, work / TRACKING, run)
