"""The images of several data sets as one array, without a copy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray


class JoinedImages:
    """Arrays uint8[N, H, W] of one height and width, one after another.

    Args:
        arrays: at least one; memory maps stay on the disk.

    Attributes:
        shape: of all together.
    """

    def __init__(self, arrays: Sequence[NDArray[np.uint8]]) -> None:
        self._arrays = tuple(arrays)
        self._ends = np.cumsum([len(array) for array in self._arrays])
        self.shape: tuple[int, ...] = (int(self._ends[-1]), *self._arrays[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice) -> NDArray[np.uint8]:
        """An image uint8[H, W], or a copy of those of a slice."""
        chosen = np.arange(len(self))[index]
        images = self.take(np.atleast_1d(chosen))
        return images if chosen.ndim else images[0]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[np.uint8]:
        return np.concatenate(self._arrays)

    def take(self, index: NDArray[np.int64], out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """The images at int64[B], in its order: uint8[B, H, W], in `out` where it is given."""
        images = np.empty((len(index), *self.shape[1:]), np.uint8) if out is None else out
        of = np.searchsorted(self._ends, index, side="right")
        for number in np.unique(of).tolist():
            at, array = of == number, self._arrays[number]
            images[at] = array[index[at] - (self._ends[number] - len(array))]
        return images
