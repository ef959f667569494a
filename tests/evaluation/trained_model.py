"""A model folder with the files that training writes, without training."""

from __future__ import annotations

from pathlib import Path

from chexvision.artifact.contents import RUN, TRAINING_IMAGES, Hardware, RunInfo
from chexvision.data.rows import read_rows, record_split, sample_patients
from chexvision.data.source import find_shards
from chexvision.evaluation.overlap import TrainingImages
from chexvision.provenance import Provenance
from chexvision.recipes import load_recipe
from chexvision.shards.split_rule import SplitChoice


def published(folder: Path, shards: Path, choice: SplitChoice, most: int | None = None) -> Path:
    """Write the files of a training run next to a model: the split, and the images of a training sample."""
    source = find_shards(shards)
    rows = read_rows(source.shards, choice)
    TrainingImages.of(sample_patients(rows["train"], most, 0), source).write(folder / TRAINING_IMAGES)
    run = RunInfo(
        provenance=Provenance(run_id="r", source_revision="0", source_dirty=False),
        recipe=load_recipe("densenet"),
        dataset=source.name,
        dataset_identity=source.identity,
        split=record_split(choice, rows),
        hardware=Hardware(device="cpu", processes=1, precision="fp32", cpu_count=2, platform="Linux"),
        versions={},
        started_at="",
        finished_at="",
        train_seconds=1.0,
    )
    (folder / RUN).write_text(run.model_dump_json())
    return folder
