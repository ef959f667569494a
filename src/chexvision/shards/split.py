"""Which patient is in which split. No patient is in two."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from chexvision.errors import UsageError
from chexvision.files.tables import csv_rows
from chexvision.nih.patients import PATIENTS, SPLITS, release

PATIENT_SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
VALIDATION_SHARE = 0.05  # of the training patients, where a release's own split has no validation
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


def official_split(validation_share: float = VALIDATION_SHARE) -> dict[int, str]:
    """All patients of the release: its own test list, and validation chosen by patient from the others.

    It depends only on the share. A larger share keeps the validation patients of a smaller one.

    Args:
        validation_share: of the patients outside the test list, 0 to 1.
    """
    test = release().official_test
    table = {patient: "test" if patient in test else "train" for patient in range(1, PATIENTS + 1)}
    return with_validation(table, validation_share, seed=0)


def with_validation(table: Mapping[int, str], validation_share: float, seed: int) -> dict[int, str]:
    """A split into "train" and "test" with a share of the training patients as validation.

    The patients are ranked as by `split_by_patient`.
    """
    ranked = _ranked((patient for patient, split in table.items() if split == "train"), seed)
    held_out = ranked[: max(1, round(validation_share * len(ranked)))]
    return dict(sorted((dict(table) | dict.fromkeys(held_out, "validation")).items()))


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


def _ranked(patients: Iterable[int], seed: int) -> list[int]:
    def rank(patient: int) -> tuple[bytes, int]:
        return hashlib.blake2b(f"{seed}:{patient}".encode(), digest_size=8).digest(), patient

    return sorted(set(patients), key=rank)


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
