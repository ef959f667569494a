"""Other people's labels of images, read from a table with a label map."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chexvision.errors import UsageError
from chexvision.evaluation.label_map import LabelMap
from chexvision.files.tables import csv_rows
from chexvision.labels import ABNORMAL
from chexvision.metrics.ranking import Floats

Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class OtherLabels:
    """The labels of N images in a table.

    Args:
        filenames: str[N], paths as the table writes them.
        patients: int64[N].
        targets: float64[N, K] over `names`: 1, 0, or NaN where unknown.
        names: the map's targets, and `ABNORMAL` where the map defines normal.
        findings: ours that each is predicted from.
    """

    filenames: NDArray[np.str_]
    patients: NDArray[np.int64]
    targets: Floats
    names: tuple[str, ...]
    findings: tuple[tuple[str, ...], ...]


def read_other_labels(path: Path, label_map: LabelMap) -> OtherLabels:
    """Read another set's table.

    Raises:
        UsageError: it cannot be read, lacks a column that the map names, names an image twice, or has no label.
    """
    rows = _read_rows(path)
    if label_map.join is not None:
        rows = _joined(rows, path, label_map)
    _need(rows[0], [*label_map.keep], path)
    for column, values in label_map.keep.items():
        rows = [row for row in rows if row[column] in values]
    if not rows:
        raise UsageError(f"{path} has no row with {' and '.join(f'{k} {v}' for k, v in label_map.keep.items())}")
    images = _images(rows, label_map, path)
    read = _labels_of_columns if label_map.form == "columns" else _labels_of_lists
    labels = read(rows, label_map, path)
    names = (*label_map.targets, *((ABNORMAL,) if label_map.normal else ()))
    targets = np.array([[row[name] for name in names] for row in labels])
    kept, targets = _one_row_per_image(images, targets, label_map, path)
    patients = _patients([rows[i] for i in kept], [images[i] for i in kept], label_map, path)
    findings = tuple(label_map.findings_of(name) if name != ABNORMAL else (ABNORMAL,) for name in names)
    return OtherLabels(np.array([images[i] for i in kept]), patients, targets, names, findings)


def _read_rows(path: Path) -> list[Row]:
    lines = csv_rows(path)
    heads = [head.strip() for head in next(lines, ("", []))[1]]
    rows = [
        {head: cell.strip() for head, cell in zip_longest(heads, cells[: len(heads)], fillvalue="") if head}
        for _, cells in lines
    ]
    if not rows:
        raise UsageError(f"{path} has no rows")
    return rows


def _joined(rows: list[Row], path: Path, label_map: LabelMap) -> list[Row]:
    join = label_map.join
    if join is None:
        return rows
    candidates = [path.with_name(join.file), path.with_name(f"{join.file}.gz")]
    other = next((candidate for candidate in candidates if candidate.is_file()), None)
    if other is None:
        raise UsageError(f"{label_map.name} needs {join.file} next to {path}: it names the images")
    second = _read_rows(other)
    _need(rows[0], list(join.by), path)
    _need(second[0], list(join.by), other)
    by_key: dict[tuple[str, ...], Row] = {tuple(row[column] for column in join.by): row for row in rows}
    keys = [tuple(row[column] for column in join.by) for row in second]
    matched = [by_key[key] | row for key, row in zip(keys, second, strict=True) if key in by_key]
    if not matched:
        raise UsageError(f"no row of {path} matches {other} by {', '.join(join.by)}")
    return matched


def _need(row: Row, columns: list[str], path: Path) -> None:
    missing = [column for column in columns if column not in row]
    if missing:
        raise UsageError(f"{path} has no column {missing[0]!r}; its columns are {', '.join(list(row)[:30])}")


def _images(rows: list[Row], label_map: LabelMap, path: Path) -> list[str]:
    if label_map.image_path is not None:
        try:
            return [label_map.image_path.format(**row) for row in rows]
        except KeyError as error:
            raise UsageError(f"{path} has no column {error}, which image_path of the label map names") from None
    column = next((head for head in label_map.image if head in rows[0]), None)
    if column is None:
        _need(rows[0], [label_map.image[0]], path)
    names = [row[column or ""] for row in rows]
    blank = next((i for i, name in enumerate(names) if not name), None)
    if blank is not None:
        raise UsageError(f"{path}: row {blank + 1} names no image")
    return [name if Path(name).suffix else name + label_map.suffix for name in names]


def _labels_of_columns(rows: list[Row], label_map: LabelMap, path: Path) -> list[dict[str, float]]:
    normal = next((head for head in label_map.normal if head in rows[0]), None)
    needed = [label for target in label_map.targets.values() for label in target.any_of]
    _need(rows[0], [*needed, *label_map.also_abnormal, *(label_map.normal[:1] if normal is None else ())], path)
    meaning = dict.fromkeys(label_map.positive, 1.0) | dict.fromkeys(label_map.negative, 0.0)
    all_found = []
    for row in rows:
        is_normal = normal is not None and meaning.get(row[normal]) == 1
        blank = 0.0 if is_normal else np.nan
        values = {
            label: meaning.get(row[label], blank if row[label] == "" else np.nan)
            for label in (*needed, *label_map.also_abnormal)
        }
        found = {name: _any([values[label] for label in target.any_of]) for name, target in label_map.targets.items()}
        any_positive = any(value == 1 for value in values.values())
        denied = normal is not None and meaning.get(row[normal]) == 0
        found[ABNORMAL] = 0.0 if is_normal else 1.0 if any_positive or denied else np.nan
        all_found.append(found)
    return all_found


def _labels_of_lists(rows: list[Row], label_map: LabelMap, path: Path) -> list[dict[str, float]]:
    column = label_map.labels or ""
    _need(rows[0], [column], path)
    own = {name: _lower(_union(label_map.below(x) for x in of.any_of)) for name, of in label_map.targets.items()}
    above = {name: _lower(_union(label_map.above(x) for x in of.any_of)) for name, of in label_map.targets.items()}
    all_unknown, normal = _lower(label_map.unknown_if), _lower(label_map.normal[:1])
    all_found = []
    for row in rows:
        labels = {part.strip().strip("'\"").strip().lower() for part in row[column].strip("[] ").split(",")} - {""}
        unknown = not labels or bool(labels & all_unknown)
        found: dict[str, float] = {}
        for name in label_map.targets:
            undecided = unknown or bool(labels & above[name])
            found[name] = 1.0 if labels & own[name] else np.nan if undecided else 0.0
        found[ABNORMAL] = 0.0 if labels == normal else np.nan if unknown else 1.0
        all_found.append(found)
    return all_found


def _union(parts: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset[str]().union(*parts)


def _lower(labels: Iterable[str]) -> set[str]:
    return {label.lower() for label in labels}


def _any(values: list[float]) -> float:
    """1 where one is, else unknown where one is unknown, else 0."""
    return 1.0 if 1.0 in values else float(np.max(values))


def _one_row_per_image(
    images: list[str], targets: Floats, label_map: LabelMap, path: Path
) -> tuple[list[int], Floats]:
    places: dict[str, list[int]] = defaultdict(list)
    for i, image in enumerate(images):
        places[image].append(i)
    repeated = next((image for image, rows in places.items() if len(rows) > 1), None)
    if repeated is None:
        return list(range(len(images))), targets
    if label_map.repeats == "refuse":
        raise UsageError(f"{path} names {repeated} {len(places[repeated])} times; one row per image is needed")
    with np.errstate(invalid="ignore"):
        means = np.array([targets[rows].mean(axis=0) for rows in places.values()])
    return [rows[0] for rows in places.values()], np.where(np.isnan(means), np.nan, means > 0.5)


def _patients(rows: list[Row], images: list[str], label_map: LabelMap, path: Path) -> NDArray[np.int64]:
    if label_map.patient_pattern is not None:
        matches = [re.search(label_map.patient_pattern, image) for image in images]
        odd = next((i for i, match in enumerate(matches) if match is None), None)
        if odd is not None:
            raise UsageError(f"{path}: no patient in {images[odd]!r} by the pattern {label_map.patient_pattern}")
        names = [match[1] for match in matches if match is not None]
    elif label_map.patient:
        column = next((head for head in label_map.patient if head in rows[0]), None)
        if column is None:
            _need(rows[0], [label_map.patient[0]], path)
        names = [row[column or ""] for row in rows]
    else:
        names = images
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.int64).reshape(-1)
