"""The rows of a table that a label map describes."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from chexvision.errors import UsageError
from chexvision.files.tables import csv_rows
from chexvision.label_maps.label_map import Join, LabelMap

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of a table.

    Args:
        where: its file and line, for messages.
        cells: by column.
    """

    where: str
    cells: dict[str, str]


def read_rows(path: Path, label_map: LabelMap) -> list[TableRow]:
    """The rows that the map keeps, joined with its second table if it names one.

    Raises:
        UsageError: a table cannot be read, lacks a column that the map names, or has no such row.
    """
    rows = plain_rows(path)
    if label_map.join is not None:
        rows = _joined(rows, path, label_map.name, label_map.join)
    need_columns(rows[0], [*label_map.keep], path)
    for column, values in label_map.keep.items():
        rows = [row for row in rows if row.cells[column] in values]
    if not rows:
        raise UsageError(f"{path} has no row with {' and '.join(f'{k} {v}' for k, v in label_map.keep.items())}")
    return rows


def plain_rows(path: Path, columns: Container[str] | None = None, *, complete: bool = False) -> list[TableRow]:
    """All rows of a table with heads; missing cells are blank.

    Args:
        path: of the table.
        columns: to keep; None for all. A table of a large release has a gigabyte of cells that nobody needs.
        complete: refuse missing cells: a program wrote all of them, so the file was cut off.

    Raises:
        UsageError: it cannot be read, has no rows, is not separated by commas, has a column twice, or a row has more
            cells than the heads, or (complete) fewer.
    """
    lines = csv_rows(path)
    heads = [head.strip() for head in next(lines, ("", []))[1]]
    if len(heads) == 1 and (separator := next((char for char in ";\t" if char in heads[0]), None)):
        raise UsageError(f"the cells of {path} are separated by {separator!r}; save it with commas")
    repeated = next((head for i, head in enumerate(heads) if head and head in heads[:i]), None)
    if repeated is not None:
        raise UsageError(f"{path} has several columns {repeated!r}; rename or remove all but one")
    kept = [head if columns is None or head in columns else "" for head in heads]
    rows = []
    for where, cells in lines:
        if any(cells[len(heads) :]):
            raise UsageError(
                f"{where} has {len(cells)} cells for {len(heads)} columns; put texts with commas in quotes"
            )
        if complete and len(cells) < len(heads):
            raise UsageError(f"{where} has {len(cells)} cells for {len(heads)} columns; fetch the file again")
        pairs = zip_longest(kept, cells[: len(heads)], fillvalue="")
        rows.append(TableRow(where, {head: cell.strip() for head, cell in pairs if head}))
    if not rows:
        raise UsageError(f"{path} has no rows")
    return rows


def need_columns(row: TableRow, columns: Sequence[str], path: Path) -> None:
    """Raise UsageError where one of the columns is missing."""
    missing = [column for column in columns if column not in row.cells]
    if missing:
        raise UsageError(f"{path} has no column {missing[0]!r}; its columns are {', '.join(list(row.cells)[:30])}")


def column_of(row: TableRow, heads: Sequence[str], path: Path) -> str:
    """The first of `heads` that the table has.

    Raises:
        UsageError: it has none.
    """
    found = next((head for head in heads if head in row.cells), None)
    if found is None:
        need_columns(row, heads[:1], path)
    return found or ""


def image_names(rows: list[TableRow], label_map: LabelMap, path: Path) -> list[str]:
    """The image of each row, as the table writes it.

    Raises:
        UsageError: the column is missing, or a row names none.
    """
    if label_map.image_path is not None:
        try:
            return [label_map.image_path.format(**row.cells) for row in rows]
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise UsageError(
                f"{path} has no column {error}, which image_path of the label map names"
                if isinstance(error, KeyError)
                else f"image_path {label_map.image_path!r} of the label map is not a pattern: {error}"
            ) from None
    column = column_of(rows[0], label_map.image, path)
    names = []
    for row in rows:
        name = row.cells[column].replace("\\", "/")
        if not name:
            raise UsageError(f"{row.where} names no image")
        has_suffix = Path(name).suffix if not label_map.suffix else name.lower().endswith(IMAGE_SUFFIXES)
        names.append(name if has_suffix else name + label_map.suffix)
    return names


def patient_names(rows: list[TableRow], images: list[str], label_map: LabelMap, path: Path) -> list[str]:
    """The patient of each row; of maps without a rule for it the image.

    Raises:
        UsageError: the column is missing, or a row names none.
    """
    if label_map.patient_pattern is not None:
        matches = [re.search(label_map.patient_pattern, image) for image in images]
        odd = next((i for i, match in enumerate(matches) if match is None or not match[1]), None)
        if odd is not None:
            raise UsageError(
                f"{rows[odd].where}: no patient in {images[odd]!r} by the pattern {label_map.patient_pattern}"
            )
        return [match[1] for match in matches if match is not None]
    if not label_map.patient:
        return images
    column = column_of(rows[0], label_map.patient, path)
    blank = next((row for row in rows if not row.cells[column]), None)
    if blank is not None:
        raise UsageError(f"{blank.where} names no patient; images of one patient could end in two splits")
    return [row.cells[column] for row in rows]


def _joined(rows: list[TableRow], path: Path, name: str, join: Join) -> list[TableRow]:
    candidates = [path.with_name(join.file), path.with_name(f"{join.file}.gz")]
    other = next((candidate for candidate in candidates if candidate.is_file()), None)
    if other is None:
        raise UsageError(f"{name} needs {join.file} next to {path}: it names the images")
    second = plain_rows(other)
    need_columns(rows[0], join.by, path)
    need_columns(second[0], join.by, other)
    by_key = {tuple(row.cells[column] for column in join.by): row for row in rows}
    keys = [tuple(row.cells[column] for column in join.by) for row in second]
    matched = [
        TableRow(by_key[key].where, by_key[key].cells | row.cells)
        for key, row in zip(keys, second, strict=True)
        if key in by_key
    ]
    if not matched:
        raise UsageError(f"no row of {path} matches {other} by {', '.join(join.by)}")
    return matched
