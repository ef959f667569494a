"""The release's metadata file, `Data_Entry_2017*.csv`, of either edition."""

from __future__ import annotations

import fnmatch
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from chexvision.errors import UsageError
from chexvision.files.tables import csv_rows

# Our name → the column names of the editions and their copies. OriginalImage[Width,Height] is two columns, divided
# at its comma.
_HEADS: dict[str, tuple[str, ...]] = {
    "filename": ("Image Index",),
    "labels": ("Finding Labels",),
    "follow_up": ("Follow-up #",),
    "patient_id": ("Patient ID",),
    "age": ("Patient Age",),
    "sex": ("Patient Gender", "Patient Sex"),
    "view": ("View Position",),
    "original_width": ("OriginalImage[Width", "OriginalImageWidth"),
    "original_height": ("Height]", "OriginalImageHeight"),
}
_NAME = "Data_Entry_2017*.csv*"
_DEPTH = 4  # /kaggle/input/datasets/organizations/nih-chest-xrays/data
_AGE = re.compile(r"^(\d{1,3})([YMD]?)$")
_TOO_LARGE = 2**53  # floats represent all integers below it exactly
_OLDEST = 120  # the 2017 edition holds ages up to 414


@dataclass(frozen=True, slots=True)
class Entry:
    """The metadata of one image. `labels` is the unparsed text of the file."""

    labels: str
    patient_id: int
    age: int | None  # years; None if missing or impossible
    sex: str | None
    view: str | None
    follow_up: int | None
    original_width: int | None
    original_height: int | None
    impossible_age: str | None = None  # the text of the file, if it is not a possible age
    uncertain: str | None = None  # with the next, of other sets' labels: see `chexvision.labels.LabelSpace.values`
    unknown: str | None = None
    study_id: int | None = None  # of other sets: the number of the study


def find_metadata(places: list[Path]) -> Path:
    """Find the release's metadata file in one of the folders or up to `_DEPTH` levels below.

    Raises:
        UsageError: there is no such file, or more than one.
    """
    found = [path for place in places for path in _named_below(place)]
    if len(found) != 1:
        listed = ", ".join(str(place) for place in places)
        several = f"{len(found)} files {_NAME}" if found else f"no {_NAME}"
        raise UsageError(f"{several} below {listed}; name the metadata file with --metadata")
    return found[0]


def _named_below(place: Path) -> list[Path]:
    """Metadata files by depth; each folder is listed once, as it may contain 100,000 images."""
    found = []
    for root, folders, names in os.walk(place, followlinks=True):
        found += [Path(root, name) for name in fnmatch.filter(names, _NAME)]
        if len(Path(root).relative_to(place).parts) == _DEPTH:
            folders.clear()
    return sorted(found, key=lambda path: (len(path.parts), path))


def read_metadata(path: Path) -> dict[str, Entry]:
    """Read the metadata of all images, by file name; plain or gzip-compressed.

    Raises:
        UsageError: the file cannot be read, lacks needed columns, contains an invalid patient number or size,
            or lists an image twice.
    """
    rows = csv_rows(path)
    heads = [head.strip() for head in next(rows, ("", []))[1]]
    column = _columns(path, heads)
    entries: dict[str, Entry] = {}
    for where, cells in rows:
        if len(cells) <= max(column.values()):
            raise UsageError(f"{where}: {len(cells)} cells, expected {len(heads)}")
        cell = {name: cells[index].strip() for name, index in column.items()}
        patient = _integer(cell["patient_id"], where)
        if patient is None or patient < 0:
            raise UsageError(f"{where}: {cell['patient_id']!r} is not a patient number")
        if cell["filename"] in entries:
            raise UsageError(f"{where}: {cell['filename']} is listed twice")
        entries[cell["filename"]] = Entry(
            labels=sys.intern(cell["labels"]),  # the same few texts in millions of rows
            patient_id=patient,
            age=_years(cell["age"]),
            sex=cell["sex"] or None,
            view=sys.intern(cell["view"]) or None,
            follow_up=_integer(cell["follow_up"], where),
            original_width=_integer(cell["original_width"], where),
            original_height=_integer(cell["original_height"], where),
            impossible_age=cell["age"] if cell["age"] and _years(cell["age"]) is None else None,
        )
    if not entries:
        raise UsageError(f"{path} describes no image")
    return entries


def _columns(path: Path, heads: list[str]) -> dict[str, int]:
    places = {head: index for index, head in enumerate(heads)}
    found = {name: [places[head] for head in choices if head in places] for name, choices in _HEADS.items()}
    missing = [_HEADS[name][0] for name, indices in found.items() if not indices]
    if missing:
        listed = ", ".join(repr(head) for head in missing)
        raise UsageError(f"{path} has no column {listed}; expected a file such as Data_Entry_2017_v2020.csv")
    return {name: indices[0] for name, indices in found.items()}


def _integer(text: str, where: str) -> int | None:
    if not text:
        return None
    try:
        number = float(text)  # spreadsheets turn 13 into 13.0
        if number != int(number) or abs(number) >= _TOO_LARGE:
            raise ValueError
    except (ValueError, OverflowError):
        raise UsageError(f"{where}: {text!r} is not a whole number below 2⁵³") from None
    return int(number)


def _years(text: str) -> int | None:
    match = _AGE.match(text.upper().removesuffix(".0"))
    if not match:
        return None
    years = int(match[1]) // {"Y": 1, "": 1, "M": 12, "D": 365}[match[2]]
    return years if years <= _OLDEST else None
