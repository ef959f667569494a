"""The tables and the image files of a release on disk."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from chexvision.errors import UsageError
from chexvision.images.sources import Found, Index, find_images
from chexvision.label_maps.labeled_images import LATERAL as LATERAL
from chexvision.label_maps.labeled_images import LabeledImage
from chexvision.nih.metadata import Entry
from chexvision.releases.image_entry import without_folder
from chexvision.releases.release import Reading, Views

LATERAL_LEFT_OUT = "lateral view; --views all keeps them"
_BELOW, _ABOVE = 4, 3  # levels of folders; physionet.org/files/mimic-cxr-jpg/2.1.0 are four
_MOST_FOLDERS = 200  # more are patients: tables are not among them


@dataclass(frozen=True, slots=True)
class Listed:
    """An image that a table lists.

    Args:
        where: the table and line, for messages.
        image: as the table writes it, for messages.
        entry: its metadata.
        left_out: why it is left out on purpose, or None.
    """

    where: str
    image: str
    entry: Entry
    left_out: str | None = None


def table_of(reading: Reading, names: Sequence[str]) -> Path:
    """The release's first table: what `reading` names, or a file near its images.

    Args:
        reading: with the table, the folder that holds it, or neither.
        names: patterns of its name, the usual one first.

    Raises:
        UsageError: there is none, or more than one.
    """
    named = reading.metadata
    if named is not None and not named.is_dir():
        return named
    places = (named,) if named is not None else reading.images
    for place in places:
        if not place.exists():
            raise UsageError(f"{'--metadata' if named is not None else '--images'} {place} does not exist")
    below = [path for place in places for path in _below(place, names)]
    found = sorted(set(below or [path for place in places for path in _above(place, names)]))
    if not found:
        listed = ", ".join(map(str, places))
        raise UsageError(f"no {names[0]} in or near {listed}; name the folder that holds it with --metadata")
    if len(found) > 1:
        raise UsageError(f"{found[0]} and {found[1]}: name one of them with --metadata")
    return found[0]


def table_beside(first: Path, names: Sequence[str]) -> Path | None:
    """Another table in the folder of the first; None where there is none.

    Raises:
        UsageError: there are several.
    """
    found = _in(first.parent, names)
    if len(found) > 1:
        raise UsageError(f"{found[0]} and {found[1].name}: remove one of them")
    return found[0] if found else None


def _below(place: Path, names: Sequence[str]) -> list[Path]:
    """Tables in a folder, or on the first level below it that has any."""
    level = [place] if place.is_dir() else []
    for _ in range(_BELOW + 1):
        found = [path for folder in level for path in _in(folder, names)]
        if found:
            return found
        level = [inner for folder in level for inner in _folders(folder)]
    return []


def _above(place: Path, names: Sequence[str]) -> list[Path]:
    for folder in [*place.resolve().parents][:_ABOVE]:
        if found := _in(folder, names):
            return found
    return []


def _in(folder: Path, names: Sequence[str]) -> list[Path]:
    plain = [*names, *(f"{name}.gz" for name in names)]
    found = [entry.name for entry in _entries(folder) if any(fnmatchcase(entry.name, name) for name in plain)]
    return [folder / name for name in sorted(found) if (folder / name).is_file()]


def _folders(folder: Path) -> list[Path]:
    inner = sorted(entry.name for entry in _entries(folder) if entry.is_dir() and not entry.name.startswith("."))
    return [folder / name for name in inner] if len(inner) <= _MOST_FOLDERS else []


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror}") from None


def why_left_out(view: str | None, *, frontal: bool, views: Views) -> str | None:
    """Why an image of a view is left out, or None where it is kept.

    Args:
        view: "PA", "AP", `LATERAL`, or None where it is neither or not known.
        frontal: whether it is known to be frontal.
        views: which are to be kept.
    """
    if frontal or view in ("PA", "AP"):
        return None
    if view == LATERAL:
        return LATERAL_LEFT_OUT if views == "frontal" else None
    return "neither a frontal nor a lateral view"


def without_laterals(
    listed: Sequence[LabeledImage], views: Views, table: object
) -> tuple[list[LabeledImage], tuple[tuple[str, int], ...]]:
    """The images of a table that are kept, and `Release.left_out`.

    Raises:
        UsageError: all are lateral views.
    """
    kept = [one for one in listed if views == "all" or one.view != LATERAL]
    if not kept:
        raise UsageError(f"{table} lists no frontal image; add --views all")
    return kept, ((LATERAL_LEFT_OUT, len(listed) - len(kept)),) if len(kept) < len(listed) else ()


@dataclass(frozen=True, slots=True)
class Located:
    """The images of a release that are on disk; the fields are those of `Release`."""

    index: Index
    entries: dict[str, Entry]
    missing: tuple[tuple[str, str], ...]
    left_out: tuple[tuple[str, int], ...]


def locate(
    reading: Reading, listed: Mapping[str, Listed], key_of: Callable[[str], str], name_of: Callable[[str], str]
) -> Located:
    """Find the image files of tables' rows.

    Args:
        reading: with the folders or archives of images.
        listed: what the tables list, by a key of the image.
        key_of: the key of a file's path in its folder or archive; any other text for files of other names.
        name_of: the name that the image has in shards, from the same path.

    Raises:
        UsageError: no image is there, or none that the tables list.
        ChexError: an archive is damaged.
    """
    found = find_images(reading.sources, by_path=True)
    images: dict[str, Found] = {}
    duplicates: list[Found] = []
    left_out = Counter(one.left_out for one in listed.values() if one.left_out is not None)
    unlisted = 0
    for image in found.images:
        key = key_of(image.member)
        row = listed.get(key)
        if row is None:
            unlisted += 1
        elif row.left_out is None:
            named = replace(image, name=name_of(image.member))
            if images.setdefault(key, named) is not named:
                duplicates.append(replace(named, name=images[key].name))
    # The same path in two folders or archives: only of images that would be used.
    for image in found.duplicates:
        row = listed.get(key_of(image.member))
        if row is not None and row.left_out is None:
            duplicates.append(replace(image, name=name_of(image.member)))
    if unlisted:
        left_out["in none of the tables"] = unlisted
    missing = {key: row for key, row in listed.items() if row.left_out is None and key not in images}
    check_some(missing, [row for row in listed.values() if row.left_out is None], reading.remote or reading.images)
    return Located(
        index=Index(tuple(images.values()), tuple(duplicates)),
        entries={image.name: listed[key].entry for key, image in images.items()},
        missing=tuple((row.image, f"not found ({without_folder(row.where)})") for row in missing.values()),
        left_out=tuple(sorted((reason, images) for reason, images in left_out.items() if reason is not None)),
    )


def check_some(missing: Mapping[str, Listed], wanted: Sequence[Listed], places: Sequence[object]) -> None:
    """Raise UsageError where the tables list no image, or where all are missing that one of them lists."""
    if not wanted:
        raise UsageError("the tables list no frontal image")
    of_table = Counter(_table(row) for row in wanted)
    lacking = Counter(_table(row) for row in missing.values())
    for table, images in of_table.items():
        if lacking[table] == images:
            first = next(row.image for row in wanted if _table(row) == table)
            raise UsageError(
                f"none of the {images:,} images of {table} is in {', '.join(map(str, places))}, first {first}; "
                "name the folder that holds them with --images"
            )


def _table(row: Listed) -> str:
    return row.where.rpartition(", line ")[0]


def whole(cell: str, what: str, where: str) -> int:
    """A number of a patient or a study.

    Raises:
        UsageError: the cell is something else; it is not repeated: it may name a patient.
    """
    if not (cell.isascii() and cell.isdigit() and len(cell) <= 15):
        raise UsageError(f"{where}: no {what} number")
    return int(cell)


def pixels(cell: str) -> int | None:
    """A width or height; None where it is not known."""
    number = cell.removesuffix(".0")
    return int(number) if number.isascii() and number.isdigit() and len(number) <= 6 else None


def assign(splits: dict[int, str], patient: int, split: str, where: str) -> None:
    """Note the split of a patient.

    Raises:
        UsageError: the patient is in another one too.
    """
    if splits.setdefault(patient, split) != split:
        raise UsageError(f"{where}: patient {patient} is in two splits, {splits[patient]} and {split}")
