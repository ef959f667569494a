"""A starting label map for a table, guessed from its heads and cells."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from chexvision.errors import UsageError
from chexvision.foreign import printable
from chexvision.label_maps.label_map import LabelMap
from chexvision.label_maps.labeled_images import SPLITS
from chexvision.label_maps.table_rows import IMAGE_SUFFIXES, TableRow, plain_rows

_IMAGE = (
    "image",
    "path",
    "file",
    "filename",
    "file_name",
    "image_id",
    "imageid",
    "image_index",
    "image_path",
    "dicom",
)
_PATIENT = ("patient", "patient_id", "patientid", "subject", "subject_id", "subjectid", "person_id", "mrn", "pid")
_SPLIT = ("split", "set", "subset", "partition", "fold")
_AGE = ("age", "patient_age", "age_years")
_SEX = ("sex", "gender", "patient_sex", "patient_gender")
_VIEW = ("view", "view_position", "viewposition", "projection", "ap_pa", "ap/pa")
_NORMAL = ("no finding", "no_finding", "normal", "healthy", "no findings")
_MEANINGS = {
    "positive": {"1", "1.0", "yes", "y", "true", "t", "positive", "pos", "present"},
    "negative": {"0", "0.0", "no", "n", "false", "f", "negative", "neg", "absent"},
    "uncertain": {"-1", "-1.0", "u", "uncertain", "maybe", "possible", "equivocal"},
}
_LABELS = re.compile("label|finding|diagnos|patholog|disease|class")
# "Doe, Jane" is not a list of labels: names would stand in the map.
_PERSONAL = re.compile("name|patient|subject|physician|doctor|radiologist|reader|operator|birth|address|phone|mail")
_BLANKS = {"", "nan", "na", "n/a", "none", "null"}
_SEPARATORS = ("|", ";", ",")
_MOST_LABELS = 200  # of a list; more are free text


@dataclass(frozen=True, slots=True)
class Template:
    """A label map and how it was found.

    Args:
        text: the YAML file.
        guesses: what each part was guessed from, in words; no cell of the table but labels.
    """

    text: str
    guesses: tuple[str, ...]


def template_of(path: Path) -> Template:
    """Guess the label map of a table.

    Raises:
        UsageError: the table cannot be read, or no column of images or labels is recognized.
    """
    rows = plain_rows(path)
    heads = list(rows[0].cells)
    guesses: list[str] = []
    found: dict[str, Any] = {"name": path.name.removesuffix(".gz").removesuffix(".csv")}
    image = _image(rows, heads, path)
    found["image"] = [image]
    guesses.append(f"images: column {image!r}")
    if not all(row.cells[image].lower().endswith(IMAGE_SUFFIXES) for row in rows):
        guesses.append("names of images without an ending: if the files have one, add suffix: .dcm or the like")
    used = {image} | _known_columns(rows, heads, found, guesses)
    rest = [head for head in heads if head not in used]
    if not _columns(rows, rest, found, guesses) and not _list(rows, rest, found, guesses):
        raise UsageError(
            f"{path}: no column of labels is recognized: neither columns of 0 and 1 (or yes and no), nor one column "
            f"of labels separated by | ; or ,; its columns are {', '.join(heads[:30])}"
        )
    LabelMap.model_validate(found)
    notes = "".join(f"# - {guess}\n" for guess in guesses)
    body = yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
    return Template(
        f"# A label map guessed from {printable(path.name)}; check each line. See docs/own-data.md.\n{notes}{body}",
        tuple(guesses),
    )


def _image(rows: Sequence[TableRow], heads: Sequence[str], path: Path) -> str:
    by_cells = [head for head in heads if all(row.cells[head].lower().endswith(IMAGE_SUFFIXES) for row in rows)]
    by_name = _named(heads, _IMAGE)
    distinct = [head for head in (*by_cells, *by_name) if len({row.cells[head] for row in rows}) == len(rows)]
    for choices in (distinct, by_cells, by_name):
        if choices:
            return choices[0]
    raise UsageError(
        f"{path}: no column of image files is recognized, by its name or by endings such as .png and .dcm; "
        f"its columns are {', '.join(heads[:30])}"
    )


def _named(heads: Sequence[str], names: Sequence[str]) -> list[str]:
    plain = {head: re.sub(r"[^a-z0-9/]+", "_", head.lower()).strip("_") for head in heads}
    return [head for name in names for head in heads if plain[head] == name]


def _known_columns(
    rows: Sequence[TableRow], heads: Sequence[str], found: dict[str, Any], guesses: list[str]
) -> set[str]:
    """Add patients, splits, ages, sexes and views; returns their columns."""
    used = set()
    for key, names in (("patient", _PATIENT), ("split", _SPLIT), ("age", _AGE), ("sex", _SEX), ("view", _VIEW)):
        named = _named(heads, names)
        if key == "split":
            named = [head for head in named if all(row.cells[head].casefold() in SPLITS for row in rows)]
        if named:
            found[key] = [named[0]]
            guesses.append(f"{key}: column {named[0]!r}")
            used.add(named[0])
    if "patient" not in found:
        guesses.append(
            "patients: no column is recognized, so every image is a patient of its own; name it with patient:, else "
            "images of one patient can be in two splits"
        )
    return used


def _columns(rows: Sequence[TableRow], heads: Sequence[str], found: dict[str, Any], guesses: list[str]) -> bool:
    """Add one column per label, if there are any."""
    known = set().union(*_MEANINGS.values())
    cells = {head: {row.cells[head].casefold() for row in rows} for head in heads}
    labels = [head for head in heads if cells[head] - _BLANKS and cells[head] <= known | _BLANKS]
    normal = [head for head in labels if head.casefold() in _NORMAL]
    targets = [head for head in labels if head not in normal]
    if not targets:
        return False
    found["form"] = "columns"
    seen = set().union(*(cells[head] for head in labels))
    for meaning, texts in _MEANINGS.items():
        found[meaning] = sorted(texts & seen)
    guesses.append(f"labels: {len(targets)} columns, the first is {targets[0]!r}")
    if seen & _BLANKS:
        guesses.append('blank cells are unknown labels; if blank means no, add "" to negative')
    _add_targets(targets, normal, found)
    return True


def _list(rows: Sequence[TableRow], heads: Sequence[str], found: dict[str, Any], guesses: list[str]) -> bool:
    """Add one column that lists labels, if there is any."""
    heads = [head for head in heads if _LABELS.search(head.lower()) or not _PERSONAL.search(head.lower())]
    for separator in _SEPARATORS:
        for head in heads:
            cells = [row.cells[head].strip("[] ") for row in rows]
            counts = Counter(part for cell in cells for part in _parts(cell, separator))
            normal = [label for label in counts if label.casefold() in _NORMAL]
            if any(separator in cell for cell in cells) and len(normal) < len(counts) <= min(_MOST_LABELS, len(rows)):
                found |= {"form": "list", "labels": head, "separator": separator}
                guesses.append(f"labels: column {head!r}, separated by {separator!r}, {len(counts)} in all")
                _add_targets(sorted(set(counts) - set(normal), key=str.casefold), normal, found)
                return True
    return False


def _parts(cell: str, separator: str) -> Iterable[str]:
    return filter(None, (part.strip().strip("'\"").strip() for part in cell.split(separator)))


def _add_targets(labels: Sequence[str], normal: Sequence[str], found: dict[str, Any]) -> None:
    if normal:
        found["normal"] = list(normal[:1])
    taken: set[str] = {"abnormal"}
    found["targets"] = {}
    for label in labels:
        name = re.sub(r"[^A-Za-z0-9 _-]+", " ", label).strip(" _-")[:60] or f"Label {len(taken)}"
        while name.casefold() in taken:
            name = f"{name} {len(taken)}"
        taken.add(name.casefold())
        found["targets"][name] = {"any_of": [label]}
