"""The contents of a set of shards, by split, read from its columns and never from its images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from chexvision.errors import ChexError
from chexvision.labels import LabelCounts, LabelSpace
from chexvision.parallel import map_in_order
from chexvision.shards.columns import ShardPlace, label_texts, patients_of
from chexvision.shards.schema import LABEL_COLUMNS, group_shards
from chexvision.shards.split import shared_patients

_COLUMNS = ("filename", *LABEL_COLUMNS, "patient_id", "age", "sex", "view")
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Ages:
    """Years of age at the time of the image, over the images whose age is known; null if none is."""

    known: int
    minimum: int | None
    median: float | None
    mean: float | None
    maximum: int | None


@dataclass(frozen=True, slots=True)
class SplitInfo:
    """One split.

    Args:
        images: how many.
        patients: how many different ones.
        shards: Parquet files.
        bytes: of all of them.
        findings: images on which each finding is present, and normal ones.
        open_labels: images with an uncertain or unknown label, of the findings that have any.
        ages: of the images.
        sexes: images by "F", "M" or "unknown".
        views: images by "PA", "AP", "L" where there are laterals, or "unknown".
    """

    images: int
    patients: int
    shards: int
    bytes: int
    findings: dict[str, int]
    open_labels: dict[str, int]
    ages: Ages
    sexes: dict[str, int]
    views: dict[str, int]


@dataclass(frozen=True, slots=True)
class SharedInfo:
    """Patients that are in two splits.

    Args:
        splits: which two.
        patients: how many.
        images: of the second split, those whose patient is in the first as well.
        share: of the second split's images, 0 to 1.
    """

    splits: tuple[str, str]
    patients: int
    images: int
    share: float


@dataclass(frozen=True, slots=True)
class SetInfo:
    """A set of shards: its name, how it was made (from its manifest), its splits and the patients they share."""

    name: str
    size: int | None  # side of an image in pixels; null without a manifest
    encoding: str | None
    kind: str | None  # "radiographs" or "synthetic"
    split_rule: str | None
    splits: dict[str, SplitInfo]
    shared: tuple[SharedInfo, ...]
    knows_patients: bool = True  # if not, every image counts as a patient


def describe(place: ShardPlace) -> SetInfo:
    """Count everything in a set of shards.

    Raises:
        UsageError: it has no shards, or lacks some of a split.
        ChexError: a shard cannot be read, or lacks a column.
    """
    grouped = group_shards(place.sizes, place.name)
    paths = [path for shards in grouped.values() for path in shards]

    def read(path: str) -> pa.Table:
        return place.read(path, _COLUMNS)[1]

    tables = dict(zip(paths, map_in_order(read, paths, place.readers), strict=True))
    manifest = place.manifest
    patients = {
        split: np.concatenate([patients_of(tables[path], f"{path} of {place.name}") for path in shards])
        for split, shards in grouped.items()
    }
    try:
        splits = {
            split: _split_info(
                place.label_space,
                [tables[path] for path in shards],
                patients[split],
                sum(place.sizes[path] for path in shards),
            )
            for split, shards in grouped.items()
        }
    except ValueError as error:
        raise ChexError(f"{place.name}: {error}") from None
    return SetInfo(
        name=place.name,
        size=manifest.size if manifest else None,
        encoding=manifest.encoding if manifest else None,
        kind=manifest.source.kind if manifest else None,
        split_rule=manifest.split.name if manifest else None,
        splits=splits,
        shared=tuple(
            SharedInfo((of.first, of.second), len(of.patients), of.images, round(of.images / of.of, 4))
            for of in shared_patients({split: numbers.tolist() for split, numbers in patients.items()})
        ),
        knows_patients=manifest is None or manifest.dataset is None or manifest.dataset.knows_patients,
    )


def _split_info(space: LabelSpace, tables: list[pa.Table], patients: NDArray[np.int64], size: int) -> SplitInfo:
    names = _column(tables, "filename")
    views = _column(tables, "view")
    counts = LabelCounts(space)
    for texts, images in Counter(texts for table in tables for texts in label_texts(table)).items():
        counts.add(space.values(*texts), images)
    return SplitInfo(
        images=len(names),
        patients=len(np.unique(patients)),
        shards=len(tables),
        bytes=size,
        findings=counts.findings,
        open_labels=counts.open_labels,
        ages=_ages([age for age in _column(tables, "age") if age is not None and math.isfinite(age)]),
        sexes=_counted(_column(tables, "sex"), ("F", "M"), len(names)),
        views=_counted(views, ("PA", "AP", *(("L",) if "L" in views else ())), len(names)),
    )


def _column(tables: list[pa.Table], name: str) -> list[Any]:
    """A column's values over all shards; nothing of shards that lack it."""
    return [value for table in tables if name in table.column_names for value in table.column(name).to_pylist()]


def _ages(years: list[int]) -> Ages:
    if not years:
        return Ages(0, None, None, None, None)
    mean = round(float(np.mean(years)), 1)
    return Ages(len(years), min(years), float(np.median(years)), mean, max(years))


def _counted(values: Iterable[str | None], known: tuple[str, ...], images: int) -> dict[str, int]:
    counts = Counter(values)
    named = {name: counts[name] for name in known}
    return {**named, UNKNOWN: images - sum(named.values())}


def lines(info: SetInfo) -> list[str]:
    """The same as a table to read, one column per split."""
    made = [f"{info.size}² {info.encoding}, {info.kind}, split {info.split_rule}"] if info.size else []
    splits = list(info.splits.values())
    rows = [
        ("", list(info.splits)),
        ("images", [f"{split.images:,}" for split in splits]),
        ("patients", [f"{split.patients:,}" for split in splits]),
        ("shards", [f"{split.shards} ({split.bytes / 10**6:,.1f} MB)" for split in splits]),
    ]
    for finding in splits[0].findings:
        rows.append((finding, [_share(split.findings[finding], split.images) for split in splits]))
    for finding in splits[0].findings:
        if any(finding in split.open_labels for split in splits):
            cells = [_share(split.open_labels.get(finding, 0), split.images) for split in splits]
            rows.append((f"{finding} uncertain or unknown", cells))
    rows.append(("age", [_age_text(split.ages) for split in splits]))
    for field in ("sexes", "views"):
        for value in max((getattr(split, field) for split in splits), key=len):
            cells = [_share(getattr(split, field).get(value, 0), split.images) for split in splits]
            rows.append((f"{'sex' if field == 'sexes' else 'view'} {value}", cells))
    return [info.name, *made, "", *aligned(rows), "", *_shared_lines(info)]


def _shared_lines(info: SetInfo) -> list[str]:
    """Which splits share patients, and how to divide them instead."""
    if not info.knows_patients:
        return ["the patients are not known: every image counts as one"]
    if not info.shared:
        return ["no patient is in two splits"]
    lines = [
        f"{of.splits[0]} and {of.splits[1]} share {of.patients:,} patients, who have {of.images:,} of the "
        f"{info.splits[of.splits[1]].images:,} {of.splits[1]} images ({100 * of.share:.0f} %)"
        for of in info.shared
    ]
    return [*lines, "to train on them, divide them by patient: data.split=official (the default), chexnet or patient"]


def _share(part: int, total: int) -> str:
    return f"{part:,} ({100 * part / max(total, 1):.1f} %)"


def _age_text(ages: Ages) -> str:
    return f"{ages.minimum}–{ages.maximum}, median {ages.median:g}" if ages.known else UNKNOWN


def aligned(rows: list[tuple[str, list[str]]]) -> list[str]:
    """A table of text, a line per row, from its first cell and its others, which are aligned to the right."""
    first = max(len(head) for head, _ in rows)
    widths = [max(len(cells[column]) for _, cells in rows) for column in range(len(rows[0][1]))]
    return [
        "  ".join(
            [head.ljust(first), *(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))]
        ).rstrip()
        for head, cells in rows
    ]
