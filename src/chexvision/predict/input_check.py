"""Whether an image is like those that a model was trained on.

Each test gives a number that is larger the less an image is like the validation images; its limit is exceeded by 1 %
of them. `measure` computes in numpy what exported models compute in their graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chexvision.images.radiograph import Grey
from chexvision.metrics.ranking import Floats

FILE = "input_check.npz"


@dataclass(frozen=True, slots=True)
class CheckTest:
    """One test of the input check.

    Args:
        name: for instance "features".
        limit: images above it are flagged.
        message: what a reader is told then, in words.
    """

    name: str
    limit: float
    message: str


@dataclass(frozen=True, slots=True)
class InputCheck:
    """The tests that a model was published with, in the order of `Outputs.checks`."""

    tests: tuple[CheckTest, ...]

    @classmethod
    def read(cls, path: Path) -> InputCheck:
        """Read ``input_check.npz``, which may be untrusted.

        Raises:
            ChexError: it is damaged or something else.
        """
        raise NotImplementedError

    def write(self, path: Path) -> None:
        """Write the file; equal content gives equal bytes."""
        raise NotImplementedError

    def measure(self, images: Sequence[Grey], features: NDArray[np.float32]) -> Floats:
        """float64[B, T] of images before equalization, uint8[S, S], and their pooled features float[B, C]."""
        raise NotImplementedError

    def warnings(self, values: Floats) -> tuple[str, ...]:
        """The messages of the tests whose limit float64[T] exceed."""
        return tuple(test.message for test, value in zip(self.tests, values, strict=True) if value > test.limit)
