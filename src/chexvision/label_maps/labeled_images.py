"""One's own table of labels as the metadata of shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from chexvision.errors import UsageError
from chexvision.files.json_files import first_problem
from chexvision.label_maps.label_map import LabelMap
from chexvision.label_maps.label_values import label_values
from chexvision.label_maps.table_rows import TableRow, column_of, image_names, patient_names, read_rows
from chexvision.labels import ABNORMAL, UNKNOWN, LabelSpace

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
SEXES = {"m": "M", "male": "M", "f": "F", "female": "F"}
LATERAL = "L"
_VIEWS = {"pa": "PA", "ap": "AP", **dict.fromkeys(("l", "ll", "rl", "lat", "lateral"), LATERAL)}
_OLDEST = 120


@dataclass(frozen=True, slots=True)
class LabeledImage:
    """One image of a table.

    Args:
        where: its file and line.
        image: as the table writes it, with slashes.
        patient: its number, from 1 in the order of the patients' names: nothing of a name is kept.
        values: see `LabelSpace.values`.
        split: "train", "validation" or "test"; None where the table has no such column.
        age: years.
        sex: "M" or "F".
        view: "PA", "AP", `LATERAL`, or None where it is another or not known.
    """

    where: str
    image: str
    patient: int
    values: tuple[float, ...]
    split: str | None
    age: int | None
    sex: str | None
    view: str | None


def read_labeled_images(path: Path, label_map: LabelMap) -> tuple[LabelSpace, list[LabeledImage]]:
    """Read a table for shards: the label set, and the images in the order of the table.

    Raises:
        UsageError: it cannot be read, lacks a column, has a cell without a meaning, names an image twice, or puts a
            patient into two splits.
    """
    return labeled_images(read_rows(path, label_map), label_map, path)


def labeled_images(rows: list[TableRow], label_map: LabelMap, path: Path) -> tuple[LabelSpace, list[LabeledImage]]:
    """The label set, and an image for each row, in order.

    Args:
        rows: of a table.
        label_map: what its columns mean.
        path: of the table, for messages.

    Raises:
        UsageError: see `read_labeled_images`.
    """
    space = _label_space(label_map)
    images = image_names(rows, label_map, path)
    values = [_values(found, space) for found in label_values(rows, label_map, path, strict=True)]
    names = patient_names(rows, images, label_map, path)
    numbers = {name: number for number, name in enumerate(sorted(set(names)), 1)}
    patients = [numbers[name] for name in names]
    splits = _splits(rows, patients, label_map, path)
    ages, sexes, views = (_optional(rows, heads, path) for heads in (label_map.age, label_map.sex, label_map.view))
    found = [
        LabeledImage(
            row.where,
            images[i],
            patients[i],
            values[i],
            splits[i],
            years(ages[i], row.where),
            SEXES.get(sexes[i].casefold()),
            _VIEWS.get(views[i].casefold()),
        )
        for i, row in enumerate(rows)
    ]
    _check_distinct(found)
    return space, found


def _label_space(label_map: LabelMap) -> LabelSpace:
    try:
        return label_map.label_space
    except ValidationError as error:
        raise UsageError(
            f"the targets of label map {label_map.name} cannot be the findings of shards: {first_problem(error)}; "
            "names have letters, digits, spaces, _ and -"
        ) from None


def _values(found: dict[str, float], space: LabelSpace) -> tuple[float, ...]:
    values = tuple(found[name] for name in space.findings)
    if found[ABNORMAL] == 1 and not any(values):  # abnormal by something that is no finding here
        return (UNKNOWN,) * len(values)
    return values


def _splits(rows: Sequence[TableRow], patients: Sequence[int], label_map: LabelMap, path: Path) -> list[str | None]:
    if not label_map.split:
        return [None] * len(rows)
    column = column_of(rows[0], label_map.split, path)
    of_patient: dict[int, str] = {}
    for row, patient in zip(rows, patients, strict=True):
        cell = row.cells[column]
        split = SPLITS.get(cell.casefold())
        if split is None:
            raise UsageError(f"{row.where}: {cell!r} in column {column!r} is not train, validation or test")
        if of_patient.setdefault(patient, split) != split:
            raise UsageError(f"{row.where}: its patient is in two splits, {of_patient[patient]} and {split}")
    return [of_patient[patient] for patient in patients]


def _optional(rows: Sequence[TableRow], heads: Sequence[str], path: Path) -> list[str]:
    if not heads:
        return [""] * len(rows)
    column = column_of(rows[0], heads, path)
    return [row.cells[column] for row in rows]


def years(cell: str, where: str) -> int | None:
    """An age such as ``61`` or ``061Y``; None where it is blank or impossible.

    Raises:
        UsageError: it is not a number.
    """
    if not cell:
        return None
    try:
        age = int(float(cell.casefold().removesuffix("y")))
    except (ValueError, OverflowError):
        raise UsageError(f"{where}: {cell!r} is not an age in years") from None
    return age if 0 <= age <= _OLDEST else None


def _check_distinct(images: Sequence[LabeledImage]) -> None:
    seen: dict[str, str] = {}
    for one in images:
        if one.image in seen:
            raise UsageError(f"{one.where} names {one.image} again, first in {seen[one.image]}; one row per image")
        seen[one.image] = one.where
