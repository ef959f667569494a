"""The release's two lists of files, `train_val_list.txt` and `test_list.txt`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from chexvision.errors import UsageError
from chexvision.files.tables import read_text
from chexvision.nih.patients import patient_of

OFFICIAL_LISTS = ("train_val_list.txt", "test_list.txt")


def find_official_lists(folders: Iterable[Path]) -> tuple[Path, Path] | None:
    """The release's two lists, if one of `folders` contains both."""
    for folder in folders:
        first, second = (folder / name for name in OFFICIAL_LISTS)
        if first.is_file() and second.is_file():
            return first, second
    return None


def read_official_lists(train_val_list: Path, test_list: Path) -> dict[int, str]:
    """The split of each patient by the two lists: "train" or "test".

    Raises:
        UsageError: a list cannot be read, contains anything but file names, or a patient is in both.
    """
    train_val, test = _patients_in(train_val_list), _patients_in(test_list)
    if both := sorted(train_val & test):
        raise UsageError(f"patient {both[0]} is in {train_val_list.name} and in {test_list.name}")
    return dict.fromkeys(train_val, "train") | dict.fromkeys(test, "test")


def _patients_in(path: Path) -> set[int]:
    try:
        return {patient_of(line.strip()) for line in read_text(path).splitlines() if line.strip()}
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
