"""The variance of AUROCs and of their differences without resampling.

DeLong, DeLong and Clarke-Pearson, Biometrics 1988, computed by ranks (Sun and Xu, IEEE Signal Processing Letters
2014). Their test assumes independent images. With several images per patient, Obuchowski (Biometrics 1997) adds
up each patient's contributions before they are squared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from chexvision.metrics.ranking import Floats


def contributions(scores: Floats, targets: Floats) -> tuple[float, Floats]:
    """An AUROC and what each image contributes to its error.

    Args:
        scores: float[N].
        targets: float[N], 1, 0 or NaN for unknown; two or more of both kinds.

    Returns:
        The AUROC, and float64[N] whose sum of squares is DeLong's variance; 0 for unknown targets. For two
        models on the same images, the sum of products is the covariance.

    Raises:
        ValueError: fewer than two positives or negatives.
    """
    positive, negative = targets == 1, targets == 0
    m, n = int(positive.sum()), int(negative.sum())
    if m < 2 or n < 2:
        raise ValueError(f"{m} positives and {n} negatives have no variance")
    known = positive | negative
    among_all = np.zeros(len(scores))
    among_all[known] = rankdata(scores[known])
    # Mid-ranks: how many of the other kind lie below, ties counted half.
    below = (among_all[positive] - rankdata(scores[positive])) / n
    above = 1 - (among_all[negative] - rankdata(scores[negative])) / m
    auroc = float(below.mean())
    shares = np.zeros(len(scores))
    shares[positive] = (below - auroc) / math.sqrt(m * (m - 1))
    shares[negative] = (above - auroc) / math.sqrt(n * (n - 1))
    return auroc, shares


def standard_error(shares: Floats, patients: NDArray[np.int64] | None = None) -> float:
    """The standard error of float[N] contributions, or of a difference or mean of several models' contributions.

    Args:
        shares: from `contributions`.
        patients: int[N]; adds up each patient's first. None takes images for independent.
    """
    if patients is not None:
        _, index = np.unique(patients, return_inverse=True)
        return math.sqrt(float((np.bincount(index.reshape(-1), shares) ** 2).sum()))
    return math.sqrt(float((shares**2).sum()))


def p_value(difference: float, error: float) -> float:
    """Two-sided, of a difference with its standard error under the normal distribution."""
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return math.erfc(abs(difference / error) / math.sqrt(2))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values adjusted for how many there are (Holm, Scandinavian Journal of Statistics 1979).

    If no null hypothesis is false, one of them or more falls below 0.05 in at most 5 % of all families of tests.
    Nothing is assumed of how the tests depend on each other.

    Args:
        p_values: of one family of tests; None where there was no test, which does not count.

    Returns:
        In the same order, none below its raw value or above 1.
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        adjusted[i] = largest
    return adjusted
