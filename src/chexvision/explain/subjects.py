"""The images that have boxes: files in the release's layout, or rows of shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from chexvision.artifact.load import Ensemble
from chexvision.data.decode import decoded_images
from chexvision.data.rows import divide, read_shards, record_split
from chexvision.data.source import ShardSource
from chexvision.errors import UsageError
from chexvision.explain.audit import Subject
from chexvision.images.sources import find_images
from chexvision.inference.prepare import prepare
from chexvision.nih.boxes import Box, Boxes
from chexvision.shards.schema import SPLITS, patient_of
from chexvision.shards.split_rule import SplitChoice, SplitRecord


def subjects_of_files(ensemble: Ensemble, folders: Sequence[Path], boxes: Boxes) -> list[Subject]:
    """The boxed images among the PNG and JPEG files below folders, in the order of their names.

    Raises:
        UsageError: one is not a folder, a boxed image cannot be read, or none is there.
    """
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"--images {folder} is not a folder; unpack archives first")
    by_image = _by_image(boxes, ensemble)
    files = {found.name: found.file for found in find_images(list(folders)).images if found.file is not None}
    chosen = sorted(files.keys() & by_image.keys())
    if not chosen:
        raise UsageError(f"none of the {len(by_image):,} images with boxes is among the {len(files):,} files given")
    numbers = {name: i for i, name in enumerate(chosen)}

    def patient(name: str) -> int:
        try:
            return patient_of(name)
        except ValueError:  # not named as in the release: a patient of its own
            return -1 - numbers[name]

    return [
        Subject(
            name,
            patient(name),
            tuple(prepare(member, files[name]) for member in ensemble.members),
            by_image[name],
        )
        for name in chosen
    ]


def subjects_of_shards(
    ensemble: Ensemble, source: ShardSource, split: str, choice: SplitChoice, boxes: Boxes
) -> tuple[list[Subject], SplitRecord | None]:
    """The boxed images of a split of shards ("all" for every one), in shard order, and how these were divided.

    Args:
        ensemble: what is to explain them.
        source: the shards.
        split: which images.
        choice: how they are divided; not used if `split` is "all".
        boxes: of all images.

    Raises:
        UsageError: there is no such split, the rule is for other images, or none of its images has a box.
        ChexError: a shard cannot be read, or two splits share a patient.
    """
    if split not in (*SPLITS, "all"):
        raise UsageError(f"--split {split!r} is not a split; known are {', '.join(SPLITS)} and all")
    everything, own = read_shards(source.shards, source.label_space)
    divided = {} if split == "all" else divide(everything, own, choice)
    rows = divided.get(split, everything)
    by_image = _by_image(boxes, ensemble)
    boxed = rows.take(np.array([file in by_image for file in rows.filenames.tolist()], np.bool_))
    if not len(boxed):
        raise UsageError(f"no image of {source.name}, split {split}, has a box in the list; try --split all")
    pixels = zip(*(decoded_images(source, boxed, of.preprocessing) for of in ensemble.members), strict=True)
    facts = zip(boxed.filenames.tolist(), boxed.patients.tolist(), pixels, strict=True)
    subjects = [Subject(file, patient, grey, by_image[file]) for file, patient, grey in facts]
    return subjects, record_split(choice, divided) if divided else None


def shard_folder(source: ShardSource) -> Path:
    """The folder of the shards' manifest."""
    first = next(path for paths in source.shards.values() for path in paths)
    return first.parent.parent if first.parent.name == "data" else first.parent


def _by_image(boxes: Boxes, ensemble: Ensemble) -> dict[str, dict[str, tuple[Box, ...]]]:
    """The boxes by file name and finding, those of the ensemble's findings alone."""
    by_image: dict[str, dict[str, tuple[Box, ...]]] = {}
    for (image, finding), of in boxes.items():
        if finding in ensemble.findings:
            by_image.setdefault(image, {})[finding] = of
    return by_image
