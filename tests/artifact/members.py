"""Two small published runs of the same data, of different seeds and preprocessing."""

from __future__ import annotations

from pathlib import Path

from chexvision.provenance import Provenance
from chexvision.recipes import load_recipe
from chexvision.training.run import run_training
from chexvision.training.training_session import TrainingProgress
from tests.label_sets import write_small_shards
from tests.training.runs import TINY


def published_members(folder: Path, count: int = 2) -> tuple[Path, list[Path]]:
    """The shards and the published models of `count` runs; all but the first equalize histograms."""
    shards = folder / "shards"
    write_small_shards(shards)
    models = []
    for seed in range(count):
        own = [f"training.seed={seed}", f"data.clahe.enabled={str(seed > 0).lower()}"]
        recipe = load_recipe("scratch", overrides=[*TINY, "data.split=shards", *own])
        provenance = Provenance(run_id=f"run-{seed}", source_revision="0", source_dirty=False)
        work = folder / f"work{seed}"
        outcome = run_training(
            recipe, shards, work, provenance, TrainingProgress(work, provenance.run_id), folder / f"model{seed}"
        )
        assert outcome.finished
        models.append(folder / f"model{seed}")
    return shards, models
