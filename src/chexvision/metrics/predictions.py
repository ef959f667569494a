"""Probabilities and labels of images: what every metric is computed from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chexvision.errors import ChexError
from chexvision.metrics.ranking import Floats


@dataclass(frozen=True, slots=True)
class Predictions:
    """A model's probabilities for N images, and the images' labels.

    Args:
        names: what the K columns are about, mostly `LabelSpace.outputs`.
        filenames: str[N].
        patients: int64[N].
        probabilities: float64[N, K] in [0, 1].
        targets: float64[N, K], 1, 0, or NaN where the label is unknown.

    Raises:
        ChexError: a probability is not a number in [0, 1].
    """

    names: tuple[str, ...]
    filenames: NDArray[np.str_]
    patients: NDArray[np.int64]
    probabilities: Floats
    targets: Floats

    def __post_init__(self) -> None:
        odd = ~((self.probabilities >= 0) & (self.probabilities <= 1))
        if odd.any():
            row, column = np.argwhere(odd)[0]
            raise ChexError(
                f"{int(odd.sum()):,} of {odd.size:,} predicted probabilities are not numbers from 0 to 1, first "
                f"{self.probabilities[row, column]} for {self.names[column]} of {self.filenames[row]}"
            )

    def __len__(self) -> int:
        return len(self.filenames)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Predictions:
        """The images at `index`, in its order."""
        return Predictions(
            self.names, self.filenames[index], self.patients[index], self.probabilities[index], self.targets[index]
        )

    def select(self, names: tuple[str, ...]) -> Predictions:
        """The columns `names`, in their order."""
        index = [self.column(name) for name in names]
        return Predictions(names, self.filenames, self.patients, self.probabilities[:, index], self.targets[:, index])

    def with_probabilities(self, probabilities: Floats) -> Predictions:
        """The same images with other probabilities, float64[N, K]."""
        return Predictions(self.names, self.filenames, self.patients, probabilities, self.targets)

    def column(self, name: str) -> int:
        """The index of the column `name`."""
        return self.names.index(name)

    @property
    def images_sha256(self) -> str:
        """Equal for equal sets of images, whatever their order."""
        return images_sha256(self.filenames)


def images_sha256(filenames: Iterable[str]) -> str:
    """Digest of the sorted file names, one per line."""
    names = sorted(str(name) for name in filenames)
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()
