"""Which images an epoch of training takes, and in which order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chexvision.data.dataset import Split


def epoch_order(split: Split, seed: int, epoch: int) -> NDArray[np.int64]:
    """The images of an epoch, int64[`split.images_per_epoch`], a function of the arguments alone.

    Every process computes the same one. A value from `len(split)` on stands for the image at that value modulo
    `len(split)`, mirrored.

    Args:
        split: to train on.
        seed: of the run.
        epoch: 0-based.
    """
    return np.random.default_rng([seed, epoch]).permutation(split.images_per_epoch).astype(np.int64)
