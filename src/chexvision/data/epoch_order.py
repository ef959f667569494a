"""Which images an epoch of training takes, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from chexvision.data.dataset import Part, Split


def images_per_part(images: Sequence[int], weights: Sequence[float], temperature: float) -> list[int]:
    """Images per epoch of each data set of a mixture; their sum is the number of images in all of them.

    They are proportional to weight · images ** (1 / temperature), see `DataConfig`. With equal weights and a
    temperature of 1 an epoch takes each image once.

    Args:
        images: of each data set.
        weights: theirs.
        temperature: above 0.
    """
    # By logarithms: a low temperature gives huge powers.
    logs = np.log(weights) + np.log(images) / temperature
    shares = np.exp(logs - logs.max())
    exact = shares / shares.sum() * sum(images)
    counts = np.floor(exact).astype(np.int64)
    largest_rest = np.argsort(counts - exact, kind="stable")[: sum(images) - int(counts.sum())]
    counts[largest_rest] += 1
    return [int(count) for count in counts]


def epoch_order(split: Split, seed: int, epoch: int) -> NDArray[np.int64]:
    """The images of an epoch, int64[`split.images_per_epoch`], a function of the arguments alone.

    Every process computes the same one. A value from `len(split)` on stands for the image at that value modulo
    `len(split)`, mirrored.

    Of a mixture, an epoch takes whole passes over each data set, and then a part of its images that moves on from
    epoch to epoch: none is taken again in these parts before all others were. So an epoch has each of n images, of
    which it takes m, at most ⌈m / n⌉ times.

    Args:
        split: to train on.
        seed: of the run.
        epoch: 0-based.
    """
    order = np.random.default_rng([seed, epoch]).permutation(split.images_per_epoch).astype(np.int64)
    if len(split.parts) < 2:
        return order
    taken = [_taken(split, part, number, seed, epoch) for number, part in enumerate(split.parts)]
    return np.concatenate(taken)[order]


def _taken(split: Split, part: Part, number: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The images of part `number` in an epoch, mirrored ones after the others."""
    first = np.arange(part.begin, part.end, dtype=np.int64)
    images = np.concatenate([first, first + len(split)]) if split.mirror else first
    passes, rest = divmod(part.per_epoch * (2 if split.mirror else 1), len(images))
    ring = np.random.default_rng([seed, number, _RING]).permutation(images)
    moved = (epoch * rest + np.arange(rest)) % len(images)
    return np.concatenate([np.tile(images, passes), ring[moved]])


_RING = 1  # a third number, so that the seed is not that of an epoch
