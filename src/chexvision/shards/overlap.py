"""Patients that are in two splits: what is learned from one would be measured on the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray


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


def shared_patients(patients: Mapping[str, NDArray[np.int64]]) -> Iterator[Shared]:
    """The patients that are in two splits.

    Args:
        patients: by split, the patient of each image: int64[N].
    """
    for first, second in combinations(patients, 2):
        both = np.intersect1d(patients[first], patients[second])
        if len(both):
            images = int(np.isin(patients[second], both).sum())
            yield Shared(first, second, tuple(both.tolist()), images, len(patients[second]))
