"""The cells of a table as labels: present, absent, uncertain, unknown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from chexvision.errors import UsageError
from chexvision.label_maps.label_map import LabelMap
from chexvision.label_maps.table_rows import TableRow, need_columns
from chexvision.labels import ABNORMAL, UNCERTAIN, UNKNOWN

_BLANKS = ("", "nan", "na", "n/a", "none", "null")


def label_values(
    rows: Sequence[TableRow], label_map: LabelMap, path: Path, *, strict: bool = False, contradictions: bool = False
) -> list[dict[str, float]]:
    """The label of each target, and `ABNORMAL`, for each row: 1, 0, `UNCERTAIN` or `UNKNOWN`.

    Args:
        rows: of the table.
        label_map: what its cells mean.
        path: of the table, for messages.
        strict: refuse cells and labels that the map does not define, which are else unknown, and images that are
            normal and have a finding.
        contradictions: (strict) take the latter: the finding counts. Tables that a program made have a few.

    Raises:
        UsageError: a column is missing, or (strict) a cell has no meaning.
    """
    of = _of_columns if label_map.form == "columns" else _of_lists
    return of(rows, label_map, path, strict, contradictions)


def _of_columns(
    rows: Sequence[TableRow], label_map: LabelMap, path: Path, strict: bool, contradictions: bool
) -> list[dict[str, float]]:
    normal = next((head for head in label_map.normal if head in rows[0].cells), None)
    needed = [label for target in label_map.targets.values() for label in target.any_of]
    needed += label_map.also_abnormal
    need_columns(rows[0], [*needed, *(label_map.normal[:1] if normal is None else ())], path)
    meaning, blank_cells = _meanings(label_map), {cell.casefold() for cell in label_map.unknown_if}
    all_found = []
    for row in rows:
        cells = {label: row.cells[label].casefold() for label in {*needed, *([normal] if normal else [])}}
        cells = {label: "" if cell in blank_cells else cell for label, cell in cells.items()}
        if strict:
            _check_cells(row, cells, meaning, label_map)
        is_normal = normal is not None and meaning.get(cells[normal]) == 1
        blank = 0.0 if is_normal else UNKNOWN
        values = {label: meaning.get(cells[label], blank if cells[label] == "" else UNKNOWN) for label in needed}
        if strict and not contradictions and is_normal and any(value == 1 for value in values.values()):
            named = next(label for label, value in values.items() if value == 1)
            raise UsageError(f"{row.where} is {normal!r} and has {named!r}")
        found = {name: _any([values[label] for label in of.any_of]) for name, of in label_map.targets.items()}
        any_positive = any(value == 1 for value in values.values())
        denied = normal is not None and meaning.get(cells[normal]) == 0
        found[ABNORMAL] = 0.0 if is_normal else 1.0 if any_positive or denied else UNKNOWN
        all_found.append(found)
    return all_found


def _meanings(label_map: LabelMap) -> dict[str, float]:
    return {
        cell.casefold(): value
        for cells, value in (
            (label_map.positive, 1.0),
            (label_map.negative, 0.0),
            (label_map.uncertain, UNCERTAIN),
        )
        for cell in cells
    }


def _check_cells(row: TableRow, cells: dict[str, str], meaning: dict[str, float], label_map: LabelMap) -> None:
    for label, cell in cells.items():
        if cell not in meaning and cell not in _BLANKS:
            known = (*label_map.positive, *label_map.negative, *label_map.uncertain)
            raise UsageError(
                f"{row.where}: {row.cells[label]!r} in column {label!r} is none of {', '.join(known)} or blank; "
                "add it to positive:, negative:, uncertain: or unknown_if: of the label map"
            )


def _of_lists(
    rows: Sequence[TableRow], label_map: LabelMap, path: Path, strict: bool, contradictions: bool
) -> list[dict[str, float]]:
    column = label_map.labels or ""
    need_columns(rows[0], [column], path)
    own, above = (
        {name: _lower(x for label in of.any_of for x in tree(label)) for name, of in label_map.targets.items()}
        for tree in (label_map.below, label_map.above)
    )
    all_unknown, normal = _lower(label_map.unknown_if), _lower(label_map.normal)
    covered = all_unknown | normal | _lower(label_map.also_abnormal) | set().union(*own.values(), *above.values())
    blank = {*_BLANKS} - covered  # pandas writes a missing list as nan
    all_found = []
    for row in rows:
        cell = row.cells[column].strip("[] ")
        labels = {part.strip().strip("'\"").strip().lower() for part in cell.split(label_map.separator)} - {""}
        if strict:
            _check_none(row, labels - covered)
        if labels <= blank:
            labels = set()
        if strict:
            _check_list(row, labels, labels if label_map.rest else covered, set() if contradictions else normal)
        unknown = not labels or bool(labels & all_unknown)
        found: dict[str, float] = {}
        for name in label_map.targets:
            undecided = unknown or bool(labels & above[name])
            found[name] = 1.0 if labels & own[name] else UNKNOWN if undecided else 0.0
        if label_map.rest:
            found[label_map.rest] = 1.0 if labels - covered else UNKNOWN if unknown else 0.0
        is_normal = bool(labels) and labels <= normal
        found[ABNORMAL] = 0.0 if is_normal else UNKNOWN if unknown else 1.0
        all_found.append(found)
    return all_found


def _check_list(row: TableRow, labels: set[str], known: set[str], normal: set[str]) -> None:
    strange = sorted(labels - known)
    if strange:
        raise UsageError(
            f"{row.where}: the label {strange[0]!r} is in no target of the label map; add it to one, or to "
            "normal:, unknown_if: or also_abnormal:"
        )
    if labels & normal and labels - normal:
        raise UsageError(f"{row.where} joins {min(labels & normal)!r} to {min(labels - normal)!r}")


def _check_none(row: TableRow, labels: set[str]) -> None:
    if "none" in labels:
        raise UsageError(
            f"{row.where}: the label 'none' may mean no finding or no labels; add it to normal: or unknown_if: of "
            "the label map"
        )


def _lower(labels: Iterable[str]) -> set[str]:
    return {label.lower() for label in labels}


def _any(values: Sequence[float]) -> float:
    """1 where one is, else uncertain where one is, else unknown where one is unknown, else 0."""
    if 1 in values:
        return 1.0
    if UNCERTAIN in values:
        return UNCERTAIN
    return UNKNOWN if any(map(math.isnan, values)) else 0.0
