"""Builds a dataset of synthetic radiographs with the label statistics of the NIH release."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from chexvision import __version__
from chexvision.errors import UsageError
from chexvision.files.atomic_folder import atomic_folder
from chexvision.images.radiograph import Encoding, Grey, encode_grey, expected_bytes
from chexvision.labels import NIH
from chexvision.nih.boxes import HEADS
from chexvision.parallel import map_in_order
from chexvision.progress import Progress
from chexvision.shards.dataset_card import write_card
from chexvision.shards.manifest import (
    FORMAT,
    FileEntry,
    Manifest,
    Source,
    SplitRule,
    check_replaceable,
    write_manifest,
)
from chexvision.shards.planned.counts import SplitCounter
from chexvision.shards.planned.outputs import LocalOutput
from chexvision.shards.planned.plan import ShardSize, plan_shards
from chexvision.shards.planned.writer import ShardWriter
from chexvision.shards.schema import SPLITS, USUAL_COLUMNS, Row
from chexvision.shards.split import split_by_patient
from chexvision.synthetic.anatomy import sample_chest
from chexvision.synthetic.prevalence import sample_findings
from chexvision.synthetic.render import Box, render_radiograph

BOXES_NAME = "boxes.csv"
_PATIENTS, _LABELS, _IMAGES = range(3)  # independent random streams
_SMALLEST = 32


@dataclass(frozen=True, slots=True)
class Visit:
    """One image to render.

    Args:
        patient: from 1.
        follow_up: number of the visit, from 0.
        age: years.
        sex: "M" or "F".
        view: "PA" or "AP".
        findings: of `NIH.findings`, in their order.
    """

    patient: int
    follow_up: int
    age: int
    sex: str
    view: str
    findings: tuple[str, ...] = ()

    @property
    def filename(self) -> str:
        return f"{self.patient:08d}_{self.follow_up:03d}.png"


def synthesize(
    out: Path,
    *,
    images: int,
    seed: int,
    size: int,
    encoding: Encoding,
    shard_bytes: int,
    workers: int,
    overwrite: bool,
) -> Manifest:
    """Write a dataset of `images` images of `size`² to the folder `out`; equal arguments give equal bytes.

    Raises:
        UsageError: fewer than 3 images, a size below 32, or `out` is not empty.
        ChexError: the disk is full.
    """
    if images < 3:
        raise UsageError(f"--images {images} leaves a split empty; use 3 or more")
    if size < _SMALLEST:
        raise UsageError(f"--size {size} is too small to show a nodule; use {_SMALLEST} or more")
    check = partial(check_replaceable, out, overwrite=overwrite)
    needed = expected_bytes(images, size, encoding)
    with atomic_folder(out, check=check, needed_bytes=needed, exit_on_sigterm=True) as folder:
        visits = plan_visits(images, seed)
        boxes = io.StringIO(newline="")
        table = csv.writer(boxes, lineterminator="\n")
        table.writerow(HEADS)
        planned = plan_shards(visits, lambda visit: visit.filename, ShardSize(shard_bytes, size, encoding))
        counter, shards = SplitCounter(NIH), {}
        with (
            ShardWriter(LocalOutput(folder), planned, USUAL_COLUMNS) as writer,
            Progress("rendering", images, "images") as progress,
        ):
            render = partial(_render, seed=seed, size=size, encoding=encoding)
            for split, row, found in map_in_order(render, visits, workers):
                finished = writer.add(split, row)
                if finished is not None:
                    shards[finished[0].path] = finished[0]
                counter.add(split, row.patient_id, NIH.values(row.labels))
                table.writerows(
                    (row.filename, box.finding, *(f"{v:.2f}" for v in (box.x, box.y, box.width, box.height)))
                    for box in found
                )
                progress.advance(1)
        text = boxes.getvalue().encode()
        (folder / BOXES_NAME).write_bytes(text)
        manifest = Manifest(
            format=FORMAT,
            chexvision=__version__,
            source=Source("synthetic"),
            split=SplitRule("patient", seed),
            size=size,
            encoding=encoding,
            splits=counter.counts,
            shards=tuple(shards[shard.path] for shard in planned),
            files=(FileEntry(BOXES_NAME, hashlib.sha256(text).hexdigest(), len(text)),),
            bad=(),
        )
        write_manifest(folder, manifest)
        write_card(folder, manifest)
    return manifest


def plan_visits(images: int, seed: int) -> list[tuple[str, Visit]]:
    """Sample the split, patient, age, sex, view and findings of each image, sorted by file name.

    As in the release, 57 % of the patients have one image; the others have at most nine here.
    Label combinations are sampled per split, so that each split has rare findings.
    """
    rng = np.random.default_rng([seed, _PATIENTS])
    visits: list[Visit] = []
    patient = 0
    while len(visits) < images:
        patient += 1
        sex = "M" if rng.random() < 0.56 else "F"
        age = int(np.clip(rng.normal(47, 16.5), 1, 95))
        count = 1 if rng.random() < 0.57 else int(min(1 + rng.geometric(0.3), 9))
        # The last patients have one image, so that even very small datasets have enough patients to split.
        for follow_up in range(min(count, max(1, images - len(visits) - 2))):
            view = "PA" if rng.random() < 0.6 else "AP"
            visits.append(Visit(patient, follow_up, age + follow_up // 3, sex, view))
    table = split_by_patient(range(1, patient + 1), seed)
    splits = [table[visit.patient] for visit in visits]
    findings: dict[str, Iterator[tuple[str, ...]]] = {}
    for number, split in enumerate(SPLITS):
        held = splits.count(split)
        findings[split] = iter(sample_findings(np.random.default_rng([seed, _LABELS, number]), held))
    return [
        (split, replace(visit, findings=next(findings[split]))) for split, visit in zip(splits, visits, strict=True)
    ]


def render_visit(visit: Visit, seed: int, size: int) -> tuple[Grey, list[Box]]:
    """The image of a visit: uint8[size, size], and where its findings are."""
    chest = sample_chest(np.random.default_rng([seed, _PATIENTS, visit.patient]), visit.sex == "F")
    rng = np.random.default_rng([seed, _IMAGES, visit.patient, visit.follow_up])
    return render_radiograph(rng, chest, visit.findings, visit.view, size)


def _render(planned: tuple[str, Visit], seed: int, size: int, encoding: Encoding) -> tuple[str, Row, list[Box]]:
    split, visit = planned
    grey, boxes = render_visit(visit, seed, size)
    row = Row(
        image=encode_grey(grey, encoding),
        filename=visit.filename,
        labels=NIH.format(visit.findings),
        patient_id=visit.patient,
        age=visit.age,
        sex=visit.sex,
        view=visit.view,
        follow_up=visit.follow_up,
        original_width=size,
        original_height=size,
    )
    return split, row, boxes
