"""Resampling of patients, not images: several images of a patient resemble each other."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from chexvision.metrics.ranking import Floats
from chexvision.metrics.records import UNDEFINED, Estimate, Interval, IntervalMethod

Counts: TypeAlias = NDArray[np.float32]  # [P, B]: how often each resample contains each patient

BLOCK = 50  # resamples computed together: their counts then fit into the cache
MIN_DEFINED_SHARE = 0.5  # share of the resamples that must define a value for it to get an interval


def patient_index(patients: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Number patients from 0 in ascending order: int[N] and how many there are."""
    known, index = np.unique(patients, return_inverse=True)
    return index.astype(np.int64).reshape(-1), len(known)


def resample_patients(count: int, method: IntervalMethod) -> Counts:
    """How often each resample contains each of `count` patients: float32[count, resamples].

    The same `count` and seed give the same resamples, so values of several models or groups are paired.
    """
    rng = np.random.default_rng(method.seed)
    counts = np.zeros((count, method.resamples), np.float32)
    for first in range(0, method.resamples, BLOCK):
        size = min(BLOCK, method.resamples - first)
        chosen = rng.integers(0, count, size=(count, size), dtype=np.int64)
        flat = chosen * size + np.arange(size)
        counts[:, first : first + size] = np.bincount(flat.ravel(), minlength=count * size).reshape(count, size)
    return counts


def interval(values: Floats, level: float, unbiased_for: float | None = None) -> Interval:
    """The percentile interval of float[B] resampled values, NaN where a resample does not define it.

    Args:
        values: one per resample.
        level: such as 0.95.
        unbiased_for: the measured value, in [0, 1], where resampling shifts it: the interval is moved back by the
            mean shift.
    """
    defined = values[~np.isnan(values)]
    if not len(values) or len(defined) < MIN_DEFINED_SHARE * len(values):
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    if unbiased_for is not None:
        shift = float(defined.mean()) - unbiased_for
        return max(0.0, float(low) - shift), min(1.0, max(0.0, float(high) - shift))
    return float(low), float(high)


def estimate(
    value: float, resampled: Floats | None = None, level: float | None = None, *, shifted: bool = False
) -> Estimate:
    """A value, NaN where undefined, with the percentile interval of float[B] resampled ones.

    Args:
        value: measured.
        resampled: NaN where a resample does not define it; None makes no interval.
        level: such as 0.95.
        shifted: whether resampling itself raises the value, see `interval`.
    """
    if np.isnan(value):
        return UNDEFINED
    ends = None
    if resampled is not None and level is not None:
        ends = interval(resampled, level, unbiased_for=float(value) if shifted else None)
    return Estimate(value=float(value), interval=ends)
