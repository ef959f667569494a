"""Folders that runs published, made within milliseconds: records, and probabilities where shards are given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from chexvision.artifact.contents import HISTORY, METRICS, PROBABILITIES, RUN, Hardware, RunInfo
from chexvision.artifact.metrics_file import Conditions
from chexvision.artifact.probabilities import Probabilities
from chexvision.data.rows import read_rows, record_split
from chexvision.data.source import ShardSource
from chexvision.evaluation.protocol import System, evaluate_systems
from chexvision.inference.labeled import labeled
from chexvision.labels import NIH
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.records import IntervalMethod
from chexvision.provenance import Provenance
from chexvision.recipes import load_recipe
from chexvision.shards.split_rule import SHARDS, SplitRecord
from tests.evaluation.conftest import random_predictions

METHOD = IntervalMethod(resamples=100, seed=0)


def epoch_entry(epoch: int, macro_auroc: float | None, loss: float = 0.3, **more: object) -> dict[str, Any]:
    """An entry of ``history.json``."""
    return {"epoch": epoch, "macro_auroc": macro_auroc, "train_loss": loss, "validation_loss": loss, **more}


def write_run(
    folder: Path,
    *,
    recipe: str = "densenet",
    noise: float = 0.1,
    seed: int = 0,
    curve: tuple[float, ...] = (0.6, 0.7, 0.72),
    source: ShardSource | None = None,
    finished_at: str = "2026-01-02T03:04:05+00:00",
) -> Path:
    """Write the records of a run into a new folder.

    Args:
        folder: to make.
        recipe: by name.
        noise: on probabilities that would be perfect without it.
        seed: of the noise.
        curve: macro AUROC by epoch.
        source: synthetic shards that were measured; made-up images without.
        finished_at: ISO 8601 in UTC.
    """
    folder.mkdir(parents=True)
    rows = read_rows(source.shards, SHARDS, source.label_space) if source is not None else {}
    if source is None:
        parts = {"test": random_predictions(300, 120, 1)}
    else:
        parts = {name: labeled(rows[name], np.zeros((len(rows[name]), 15))) for name in ("validation", "test")}
    rng = np.random.default_rng(seed)
    predictions = {name: _noisy(of, rng, noise) for name, of in parts.items()}
    identity = "a" * 64 if source is None else source.identity
    dataset = "chex/xrays@" + "1" * 40 if source is None else source.name
    conditions = Conditions(
        dataset=dataset,
        dataset_identity=identity,
        synthetic=source is not None,
        split="test",
        split_rule="shards",
        epoch=len(curve),
    )
    metrics, _ = evaluate_systems([System("model", predictions["test"])], conditions, None, METHOD)
    (folder / METRICS).write_text(metrics.model_dump_json())
    (folder / HISTORY).write_text(json.dumps([epoch_entry(i, value, 1 - value) for i, value in enumerate(curve, 1)]))
    run = RunInfo(
        provenance=Provenance(run_id=f"{recipe}-{folder.name}", source_revision="0" * 40, source_dirty=False),
        recipe=load_recipe(recipe),
        dataset=dataset,
        dataset_identity=identity,
        split=record_split(SHARDS, rows) if rows else SplitRecord(rule="shards"),
        hardware=Hardware(device="cpu", processes=1, precision="fp32", cpu_count=2, platform="Linux"),
        versions={},
        started_at=finished_at,
        finished_at=finished_at,
        train_seconds=5400.0,
    )
    (folder / RUN).write_text(run.model_dump_json())
    if source is not None:
        Probabilities.of(identity, NIH, predictions).write(folder / PROBABILITIES)
    return folder


def change(path: Path, how: Callable[[Any], object]) -> None:
    """Rewrite a JSON file after `how` has changed its content in place."""
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


def _noisy(of: Predictions, rng: np.random.Generator, noise: float) -> Predictions:
    targets = np.nan_to_num(of.targets, nan=0.5)
    return of.with_probabilities(np.clip(0.3 + 0.4 * targets + rng.normal(0, noise, targets.shape), 0, 1))
