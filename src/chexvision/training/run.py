"""A whole run: find the data, train, measure the best weights, assemble the artifact, publish it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from safetensors.torch import load_file

from chexvision.config import Recipe
from chexvision.data.dataset import Split, open_split, splits_of
from chexvision.data.source import ShardSource, find_shards
from chexvision.evaluation.metrics import split_metrics
from chexvision.evaluation.predict import predict_split
from chexvision.files import write_text_atomic
from chexvision.hub import artifact
from chexvision.hub.artifact import Metrics, RunInfo, SplitMetrics
from chexvision.hub.card import render_card
from chexvision.hub.reference import Reference
from chexvision.hub.store import Publication, open_store
from chexvision.models.classifier import CheXVision, build_model
from chexvision.provenance import Provenance, now
from chexvision.training.hardware import describe, package_versions, start_accelerator
from chexvision.training.history import best_epoch, dump_history
from chexvision.training.loop import BEST_FILE, Training
from chexvision.training.report import ConsoleReporter


@dataclass(frozen=True, slots=True)
class Outcome:
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
    metrics: Metrics | None = None


def run_training(
    recipe: Recipe,
    data: Reference,
    work: Path,
    provenance: Provenance,
    to: Reference | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train a recipe and leave the complete artifact in ``work/artifact``.

    Every process of a run in several calls this. A run that was stopped goes on if it is called again with the
    same `work`.

    Args:
        recipe: what to compute.
        data: a folder of shards, or a Hub dataset pinned to a sha.
        work: folder of this run's state, history and artifact.
        provenance: which run this is.
        to: where to publish, if anywhere.
        should_stop: asked between steps whether to save the state and end early.

    Raises:
        UsageError: the data is not pinned, empty, or not what the recipe needs.
        ChexError: data, hardware or destination failed.
    """
    started_at = now()
    accelerator = start_accelerator(recipe.training.precision)
    reporter = ConsoleReporter() if accelerator.is_main_process else None
    with accelerator.main_process_first():
        model = build_model(recipe)  # before the data: a failed download of weights should not cost an hour
        source = find_shards(data)
        rows = splits_of(source, recipe.data, recipe.training.seed)
        quiet = not accelerator.is_main_process
        splits = {
            name: open_split(source, rows, name, recipe.data, quiet) for name in sorted(rows) if len(rows[name])
        }
        model = build_model(recipe)
    training = Training(
        recipe, model, splits["train"], splits["validation"], accelerator, work, reporter, should_stop
    )
    if not training.run():
        return Outcome(finished=False)
    metrics = _measure(training, model, splits, source, recipe, accelerator)
    if not accelerator.is_main_process:
        return Outcome(finished=True)
    info = RunInfo(
        provenance=provenance,
        recipe=recipe,
        dataset=source.name,
        dataset_identity=source.identity,
        split_table_sha256=_sha256(recipe.data.split_table),
        hardware=describe(accelerator),
        versions=package_versions(),
        started_at=started_at,
        finished_at=now(),
        train_seconds=round(sum(record.train_seconds for record in training.history), 1),
    )
    folder = _assemble(work / "artifact", training, model, metrics, info)
    published = open_store(to).publish(folder, provenance.run_id) if to is not None else None
    return Outcome(True, folder, published, metrics)


def _measure(
    training: Training,
    model: CheXVision,
    splits: dict[str, Split],
    source: ShardSource,
    recipe: Recipe,
    accelerator: Accelerator,
) -> Metrics:
    """The figures of the best epoch's weights, which `model` holds afterwards."""
    accelerator.wait_for_everyone()
    model.load_state_dict(load_file(training.work / BEST_FILE, device=str(accelerator.device)))
    model.eval()
    figures: dict[str, SplitMetrics] = {}
    for name in ("validation", "test"):
        if name in splits:
            split = splits[name]
            probabilities, _ = predict_split(model, split, accelerator, recipe.optim.micro_batch_size)
            figures[name] = split_metrics(probabilities, split.targets, split.rows.patients)
    return Metrics(
        dataset=source.name,
        drawn=source.drawn,
        split_table=recipe.data.split_table,
        image_size=recipe.data.image_size,
        epoch=best_epoch(training.history).epoch,
        splits=figures,
    )


def _assemble(folder: Path, training: Training, model: CheXVision, metrics: Metrics, info: RunInfo) -> Path:
    """Write all files of the artifact beside `folder`, then give them its name."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / artifact.CARD).write_text(
        render_card(metrics, info, f"CheXVision {info.recipe.name}"), encoding="utf-8"
    )
    (partial / artifact.HISTORY).write_text(dump_history(training.history), encoding="utf-8")
    write_text_atomic(partial / artifact.METRICS, metrics.model_dump_json(indent=2) + "\n")
    write_text_atomic(partial / artifact.RUN, info.model_dump_json(indent=2) + "\n")
    model.to("cpu").save_pretrained(partial)  # the card is there already, so the mixin writes none of its own
    # safetensors makes its file readable by its owner alone.
    (partial / artifact.WEIGHTS).chmod((partial / artifact.CONFIG).stat().st_mode)
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    return folder


def _sha256(table: str | None) -> str | None:
    return hashlib.sha256(Path(table).read_bytes()).hexdigest() if table is not None else None
