"""Shards of a label set other than NIH's, with uncertain and unknown labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from chexvision.images.radiograph import encode_grey
from chexvision.labels import LabelSpace
from chexvision.shards.manifest import FORMAT, Manifest, Source, SplitRule, write_manifest
from chexvision.shards.planned.counts import SplitCounter
from chexvision.shards.planned.outputs import LocalOutput
from chexvision.shards.planned.plan import ShardSize, plan_shards
from chexvision.shards.planned.writer import ShardWriter
from chexvision.shards.schema import Columns, Row

SMALL = LabelSpace(findings=("Opacity", "Fracture", "Support Devices"), normal="Healthy")
_SPLITS = (("train", 120), ("validation", 60), ("test", 60))


def write_small_shards(folder: Path, label_space: LabelSpace = SMALL, *, all_unknown: bool = False) -> Manifest:
    """240 noise images of 32² with a bright band per present finding; one patient each."""
    rng = np.random.default_rng(7)
    folder.mkdir(parents=True)
    rows: list[tuple[str, Row]] = []
    for split, images in _SPLITS:
        for _ in range(images):
            number = len(rows) + 1
            rows.append((split, _row(rng, number, label_space, all_unknown or number % 20 == 0)))
    planned = plan_shards(rows, lambda row: row.filename, ShardSize(10**7, 32, "png"))
    counter, shards = SplitCounter(label_space), []
    with ShardWriter(LocalOutput(folder), planned, Columns(open_labels=True)) as writer:
        for shard in planned:
            for row in shard.images:
                finished = writer.add(shard.split, row)
                shards += [finished[0]] if finished is not None else []
                values = label_space.values(row.labels, row.uncertain, row.unknown)
                counter.add(shard.split, row.patient_id, values)
    manifest = Manifest(
        format=FORMAT,
        chexvision="0",
        source=Source("radiographs"),
        split=SplitRule("patient", 0),
        size=32,
        encoding="png",
        splits=counter.counts,
        shards=tuple(shards),
        files=(),
        bad=(),
        label_space=label_space,
    )
    write_manifest(folder, manifest)
    return manifest


def _row(rng: np.random.Generator, number: int, space: LabelSpace, unlabeled: bool) -> Row:
    kinds = rng.choice(["present", "absent", "uncertain", "unknown"], len(space.findings), p=[0.35, 0.45, 0.1, 0.1])
    if unlabeled:
        kinds[:] = "unknown"
    grey = rng.integers(0, 120, (32, 32), dtype=np.uint8)
    for i, kind in enumerate(kinds):
        if kind == "present":
            grey[8 * i : 8 * i + 8] += 100

    def text(kind: str) -> str:
        return "|".join(name for name, found in zip(space.findings, kinds, strict=True) if found == kind)

    return Row(
        image=encode_grey(grey, "png"),
        filename=f"study{number:03d}.png",
        labels=text("present") or (space.normal if (kinds == "absent").all() else ""),
        patient_id=number,
        age=None,
        sex="MF"[number % 2],
        view=None,
        follow_up=None,
        original_width=None,
        original_height=None,
        uncertain=text("uncertain") or None,
        unknown=text("unknown") or None,
    )
