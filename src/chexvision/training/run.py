"""A complete run: find the data, train, measure the best weights, assemble the artifact, publish it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray
from safetensors.torch import load
from torch import Tensor

from chexvision.artifact import contents as artifact
from chexvision.artifact.contents import RunInfo
from chexvision.artifact.metrics_file import Evaluation
from chexvision.artifact.probabilities import Probabilities
from chexvision.artifact.store import Publication, open_store
from chexvision.config.recipe import Recipe
from chexvision.data.dataset import Split
from chexvision.data.mixture import RunData, find_data
from chexvision.data.placement import placed, used_here
from chexvision.evaluation.attributes import conditions_of, groups_of
from chexvision.evaluation.overlap import TrainingImages
from chexvision.evaluation.parts import shared_image_notes, with_parts
from chexvision.evaluation.protocol import evaluate_trained
from chexvision.evaluation.split_check import check_of
from chexvision.explain.card_example import example_overlay
from chexvision.files.atomic import write_text_atomic
from chexvision.files.atomic_folder import atomic_folder
from chexvision.hub.reference import Reference, RepoRef
from chexvision.hub.repo_files import CONFIG, WEIGHTS
from chexvision.inference.labeled import labeled
from chexvision.inference.predict_split import predict_with_features
from chexvision.metrics.operating_points import OperatingPoints
from chexvision.metrics.predictions import Predictions
from chexvision.models.classifier import CheXVision
from chexvision.models.initial_weights import fetch_weights
from chexvision.models.untrained import build_model
from chexvision.predict.input_check import FILE as CHECK_FILE
from chexvision.predict.input_check import InputCheck
from chexvision.predict.operating_files import save_operating_points
from chexvision.provenance import Provenance, now
from chexvision.report.card_parts import OVERLAY, with_exported
from chexvision.report.charts import curve_sheets
from chexvision.report.model_card import render_card
from chexvision.runtime.export_info import MODEL, ExportInfo
from chexvision.tracking.event_files import copy_event_files
from chexvision.tracking.figures import without_paths
from chexvision.tracking.tracker import FOLDER as TRACKING
from chexvision.tracking.tracker import Tracker
from chexvision.training.checkpoint import Saving
from chexvision.training.distillation import with_teacher
from chexvision.training.hardware import describe, package_versions, rank_of, start_accelerator
from chexvision.training.history import dump_history, kept_epoch
from chexvision.training.loop import Training
from chexvision.training.processes import check_same_versions, from_first, nodes_of, ranks_where
from chexvision.training.reporter import RunReporter
from chexvision.training.training_session import BEST_FILE, TrainingProgress

_log = logging.getLogger(__name__)


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
        found, splits, model = _prepare(recipe, data, accelerator)
        reporter = None
        if accelerator.is_main_process:
            reporter = RunReporter(progress, recipe, tracker, splits["train"].images_per_epoch)
            if model.initialized is not None:
                reporter.initialized(model.initialized)
            for note in shared_image_notes(recipe.name, splits):
                print(f"note: {note}", flush=True)
        splits["train"], teacher = with_teacher(recipe, splits, accelerator, work)
        used, stop = (splits["train"], splits["validation"]), progress.session.should_stop
        training = Training(recipe, model, *used, accelerator, work, reporter, stop, saving)
        finished = training.run()
    if not finished:
        accelerator.end_training()
        progress.session.paused()
        return TrainingOutcome(finished=False)
    predictions, features = _predict(training, model, splits, accelerator, recipe.optim.micro_batch_size)
    # Here, where all processes are: one that exits inside its group may abort, and end the one that publishes.
    accelerator.end_training()
    if not accelerator.is_main_process:
        return TrainingOutcome(finished=True)
    groups = groups_of(splits["test"]) if "test" in splits else None
    conditions = conditions_of(
        found.datasets[0].source,
        "test",
        found.record,
        accelerator.mixed_precision,
        image_size=recipe.data.image_size,
        epoch=kept_epoch(training.history, recipe.training).epoch,
    ).model_copy(update={"dataset": found.name, "dataset_identity": found.identity, "synthetic": found.synthetic})
    metrics, points = evaluate_trained(recipe.name, predictions, groups, conditions)
    metrics = with_parts(metrics, points, splits, predictions)
    check, result = check_of(splits, features)
    metrics = metrics.model_copy(update={"input_check": result})
    info = RunInfo(
        provenance=provenance,
        recipe=recipe,
        dataset=found.name,
        dataset_identity=found.identity,
        split=found.record,
        datasets=found.trained_on(splits["train"]),
        weights=model.initialized,
        hardware=describe(accelerator),
        versions=package_versions(),
        started_at=started_at,
        finished_at=now(),
        train_seconds=round(sum(record.train_seconds for record in training.history), 1),
        teacher=teacher,
    )
    seen = TrainingImages.union([TrainingImages.of(part.rows, part.source) for part in splits["train"].parts])
    figures = _figures(model, splits, predictions, points, metrics)
    folder = _assemble(
        work / "artifact", training, model, predictions, metrics, points, figures, info, seen, check, to, export
    )
    progress.trained(folder)
    published = open_store(to, private=private).publish(folder, provenance.run_id) if to is not None else None
    progress.session.published(published.reference if published is not None else None)
    return TrainingOutcome(True, folder, published, metrics)


def _prepare(
    recipe: Recipe, data: Reference | None, accelerator: Accelerator
) -> tuple[RunData, dict[str, Split], CheXVision]:
    """The data, its splits decoded, and the untrained model; each machine's first process fetches."""
    rank = rank_of(accelerator)
    with accelerator.local_main_process_first():
        weights = fetch_weights(recipe.model)  # before the data: a failed download should not cost an hour
    used = used_here(recipe, data, nodes_of(rank), rank, lambda short: bool(ranks_where(rank, short)))
    with accelerator.local_main_process_first():
        found = find_data(recipe.data, data, used)
        model = build_model(recipe, found.label_space, weights)
        model.preprocessing = found.preprocessing(model.preprocessing)
        nodes = used.nodes if used is not None else None
        splits = found.open(recipe.training.seed, not accelerator.is_main_process, nodes)
    for name in ("train", "validation"):  # the test split is read once, at the end
        splits[name] = placed(splits[name], recipe.data.placement, rank)
    return found, splits, model


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


def _predict(
    training: Training, model: CheXVision, splits: dict[str, Split], accelerator: Accelerator, batch_size: int
) -> tuple[dict[str, Predictions], dict[str, NDArray[np.float32]]]:
    """Predictions and features of validation and test by the best epoch's weights, which `model` holds afterwards."""
    best = from_first(training.process, (training.work / BEST_FILE).read_bytes)
    model.load_state_dict(load(best or b""))
    model.eval()
    predictions: dict[str, Predictions] = {}
    features: dict[str, NDArray[np.float32]] = {}
    for name in ("validation", "test"):
        if name in splits:
            probabilities, features[name] = predict_with_features(model, splits[name], accelerator, batch_size)
            predictions[name] = labeled(splits[name].rows, probabilities)
    return predictions, features


def _figures(
    model: CheXVision,
    splits: dict[str, Split],
    predictions: dict[str, Predictions],
    points: OperatingPoints,
    metrics: Evaluation,
) -> dict[str, str | bytes]:
    """The figures of the card by file name; with an overlay only where the images are synthetic."""
    # Where validation itself is measured, nothing calibrates it.
    applied = OperatingPoints() if metrics.split == "validation" else points
    measured = predictions[metrics.split]
    figures: dict[str, str | bytes] = {**curve_sheets(measured, applied, metrics.metrics)}
    images = splits[metrics.split].images
    if metrics.synthetic and not isinstance(images, Tensor):
        overlay = example_overlay(model, applied.calibrated(measured), images)
        figures |= {OVERLAY: overlay} if overlay is not None else {}
    return figures


def _assemble(
    folder: Path,
    training: Training,
    model: CheXVision,
    predictions: dict[str, Predictions],
    metrics: Evaluation,
    points: OperatingPoints,
    figures: dict[str, str | bytes],
    info: RunInfo,
    seen: TrainingImages,
    check: InputCheck | None,
    to: Reference | None,
    export: bool,
) -> Path:
    """Write all files of the artifact into `folder`, which appears complete or not at all."""
    with atomic_folder(folder) as partial:
        card = render_card(metrics, info, f"CheXVision {info.recipe.name}", sorted(figures), to)
        write_text_atomic(partial / artifact.CARD, card)
        save_operating_points(points, partial)
        (partial / artifact.FIGURES).mkdir()
        for name, content in figures.items():
            (partial / artifact.FIGURES / name).write_bytes(content.encode() if isinstance(content, str) else content)
        (partial / artifact.HISTORY).write_text(dump_history(training.history), encoding="utf-8")
        write_text_atomic(partial / artifact.METRICS, metrics.model_dump_json(indent=2) + "\n")
        write_text_atomic(partial / artifact.RUN, info.model_dump_json(indent=2) + "\n")
        seen.write(partial / artifact.TRAINING_IMAGES)
        if check is not None:
            check.write(partial / CHECK_FILE)
        Probabilities.of(info.dataset_identity, model.label_space, predictions).write(
            partial / artifact.PROBABILITIES
        )
        if info.recipe.training.track == "tensorboard":
            copy_event_files(training.work / TRACKING, partial)
        model.to("cpu").save_pretrained(partial)  # the card is there already, so the mixin writes none of its own
        # safetensors makes its file readable by its owner alone.
        (partial / WEIGHTS).chmod((partial / CONFIG).stat().st_mode)
        if export:
            made = _export(partial, str(to) if isinstance(to, RepoRef) else info.recipe.name)
            write_text_atomic(partial / artifact.CARD, with_exported(card, made))
    return folder


def _export(folder: Path, name: str) -> ExportInfo | str:
    """Export the model in a folder; where that fails, the reason: a run took hours and is published anyway."""
    try:
        from chexvision.export.export_model import export_model

        return export_model(folder, folder, name=name)
    except Exception as error:  # noqa: BLE001 - of the exporter, of onnxruntime, or of a package that is missing
        why = " ".join(str(error).split())[:300] or type(error).__name__
        _log.warning("WARNING: the model is published without %s: %s", MODEL, why)
        return why
