"""Which patient is in which split. No patient is in two."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from chexvision.errors import UsageError
from chexvision.files.atomic import sha256_of
from chexvision.files.tables import csv_rows, read_text
from chexvision.nih.release import PATIENTS, SPLITS, patient_of, release
from chexvision.shards.manifest import SplitRule

PATIENT_SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
VALIDATION_SHARE = 0.05  # of the patients of the release's train_val_list
OFFICIAL_LISTS = ("train_val_list.txt", "test_list.txt")
_ALIASES = {"val": "validation", "valid": "validation", "dev": "validation"}


def split_by_patient(patients: Iterable[int], seed: int) -> dict[int, str]:
    """Split patients 70/10/20 into train, validation and test.

    Patients are ranked by a hash of `seed` and their number and the ranking is cut by the shares: neither
    the order of `patients` nor that of a dict matters, and further patients only move those at a cut. With
    three patients or more no split is empty.
    """
    ranked = _ranked(patients, seed)
    total = len(ranked)
    validation = max(1, round(PATIENT_SHARES["validation"] * total)) if total > 1 else 0
    test = max(1, round(PATIENT_SHARES["test"] * total)) if total > 2 else 0
    names = ["validation"] * validation + ["test"] * test
    names += ["train"] * (total - len(names))
    return dict(sorted(zip(ranked, names, strict=True)))


def split_officially(train_val_list: Path, test_list: Path, seed: int) -> dict[int, str]:
    """The release's own split, with 5 % of the first list's patients as validation.

    With seed 0 and the lists of the complete release this is `official_split`.

    Raises:
        UsageError: a list cannot be read, contains anything but file names, or a patient is in both.
    """
    train_val, test = _patients_in(train_val_list), _patients_in(test_list)
    if both := sorted(train_val & test):
        raise UsageError(f"patient {both[0]} is in {train_val_list.name} and in {test_list.name}")
    return _with_validation(train_val, test, VALIDATION_SHARE, seed)


def official_split(validation_share: float = VALIDATION_SHARE) -> dict[int, str]:
    """All patients of the release: its own test list, and validation chosen by patient from the others.

    It depends only on the share. A larger share keeps the validation patients of a smaller one.

    Args:
        validation_share: of the patients outside the test list, 0 to 1.
    """
    test = release().official_test
    return _with_validation(set(range(1, PATIENTS + 1)) - test, test, validation_share, seed=0)


def _with_validation(
    train_val: Collection[int], test: Collection[int], validation_share: float, seed: int
) -> dict[int, str]:
    ranked = _ranked(train_val, seed)
    validation = max(1, round(validation_share * len(ranked)))
    table = dict.fromkeys(test, "test")
    table.update(dict.fromkeys(ranked[:validation], "validation"))
    table.update(dict.fromkeys(ranked[validation:], "train"))
    return dict(sorted(table.items()))


def read_split_table(path: Path) -> dict[int, str]:
    """Read a ``patient_id,split`` table, CSV or CSV.gz; ``val``, ``valid`` and ``dev`` mean validation.

    Raises:
        UsageError: the file cannot be read, lacks the two columns, names an unknown split or no patient, or
            puts a patient into two splits.
    """
    table: dict[int, str] = {}
    rows = csv_rows(path)
    heads = [head.strip() for head in next(rows, ("", []))[1]]
    missing = {"patient_id", "split"} - set(heads)
    if missing:
        raise UsageError(f"{path} has no column {sorted(missing)[0]!r}; a split table has patient_id,split")
    for where, cells in rows:
        row = dict(zip(heads, cells, strict=False))
        number, split = row.get("patient_id", ""), row.get("split", "")
        try:
            patient = int(number)
        except ValueError:
            raise UsageError(f"{where}: {number!r} is not a patient number") from None
        name = split.strip().lower()
        name = _ALIASES.get(name, name)
        if name not in SPLITS:
            raise UsageError(f"{where}: unknown split {split!r}; known are {', '.join(SPLITS)}")
        if table.setdefault(patient, name) != name:
            raise UsageError(f"{where}: patient {patient} is in two splits, {table[patient]} and {name}")
    if not table:
        raise UsageError(f"{path} names no patient")
    return table


def split_for_build(
    name: str | None, seed: int, folders: Iterable[Path], patients: Iterable[int]
) -> tuple[SplitRule, dict[int, str]]:
    """The rule and the split of each patient of shards that are built.

    Args:
        name: "official", "patient", the path of a table, or None: official where its lists are found.
        seed: of the splits that are chosen here.
        folders: where the release's lists may be.
        patients: of the images.

    Raises:
        UsageError: the lists or the table are missing, or cannot be used.
    """
    lists = find_official_lists(folders)
    name = name or ("official" if lists else "patient")
    if name == "patient":
        return SplitRule(name, seed), split_by_patient(patients, seed)
    if name == "official":
        if lists is None:
            raise UsageError(
                "--split official needs train_val_list.txt and test_list.txt next to the images; "
                "put them there or choose --split patient"
            )
        return SplitRule(name, seed, sha256_of(*lists)), split_officially(*lists, seed)
    path = Path(name).expanduser()
    if not path.is_file():
        raise UsageError(f"--split {name!r} is neither 'official' nor 'patient' nor a file with patient_id,split")
    return SplitRule(path.name, seed, sha256_of(path)), read_split_table(path)


def find_official_lists(folders: Iterable[Path]) -> tuple[Path, Path] | None:
    """The release's two lists, if one of `folders` contains both."""
    for folder in folders:
        first, second = (folder / name for name in OFFICIAL_LISTS)
        if first.is_file() and second.is_file():
            return first, second
    return None


def _ranked(patients: Iterable[int], seed: int) -> list[int]:
    def rank(patient: int) -> tuple[bytes, int]:
        return hashlib.blake2b(f"{seed}:{patient}".encode(), digest_size=8).digest(), patient

    return sorted(set(patients), key=rank)


def _patients_in(path: Path) -> set[int]:
    try:
        return {patient_of(line.strip()) for line in read_text(path).splitlines() if line.strip()}
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None


@dataclass(frozen=True, slots=True)
class Shared:
    """Patients that are in two splits.

    Args:
        first: a split.
        second: another.
        patients: their numbers, sorted; not empty.
        images: of `second`, those whose patient is in `first` as well.
        of: all images of `second`.
    """

    first: str
    second: str
    patients: tuple[int, ...]
    images: int
    of: int

    def __str__(self) -> str:
        return (
            f"patient {self.patients[0]} is in both {self.first} and {self.second}, one of {len(self.patients):,} "
            f"shared patients, who have {self.images:,} of the {self.of:,} {self.second} images "
            f"({100 * self.images / self.of:.0f} %)"
        )


def shared_patients(patients: Mapping[str, Sequence[int]]) -> Iterator[Shared]:
    """The patients that are in two splits.

    Args:
        patients: by split, the patient of each image.
    """
    for first, second in combinations(patients, 2):
        both = set(patients[first]) & set(patients[second])
        if both:
            images = sum(patient in both for patient in patients[second])
            yield Shared(first, second, tuple(sorted(both)), images, len(patients[second]))
