"""AUROC and average precision of weighted images, for many weightings at once.

Scores are sorted once. What a weighting then needs is, at each score that a positive has, the weight of the
positives there and of the negatives up to there. These are sums over patients, so a sparse product gives them for
many resamples together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ranking:
    """One finding's images by score, S being the number of different scores that positives have, ascending.

    Args:
        positives: float64[S, P], positive images of each patient at each of these scores.
        negatives: float64[S + 1, P], negative images above the score before and not above this one; in the last
            row those above all.
        tied: float64[S, P], those of `negatives` whose score is just this one; None where there are none.
    """

    positives: csr_array
    negatives: csr_array
    tied: csr_array | None

    @classmethod
    def of(cls, scores: Floats, targets: Floats, patients: NDArray[np.int64], count: int) -> Ranking:
        """Sort the images whose target is known.

        Args:
            scores: float[N], higher for more likely.
            targets: float[N], 1, 0 or NaN for unknown.
            patients: int[N], each image's patient as a number below `count`.
            count: how many patients there are.
        """
        from scipy.sparse import csr_array  # prediction alone imports this module too, and does without scipy

        positive, negative = targets == 1, targets == 0
        at = np.unique(scores[positive])

        def matrix(chosen: NDArray[np.bool_], rows: int) -> csr_array:
            row = np.searchsorted(at, scores[chosen])
            return csr_array((np.ones(len(row)), (row, patients[chosen])), shape=(rows, count))

        tied = negative & np.isin(scores, at)
        return cls(
            matrix(positive, len(at)),
            matrix(negative, len(at) + 1),
            matrix(tied, len(at)) if tied.any() else None,
        )

    def auroc(self, counts: Floats) -> Floats:
        """float64[B], NaN where a weighting leaves one kind of image; see `areas`."""
        return self._auroc(*self._weights(counts))

    def areas(self, counts: Floats) -> tuple[Floats, Floats]:
        """AUROC and average precision, float64[B] each, NaN where a weighting leaves one kind of image.

        Args:
            counts: float64[P, B], how often each patient counts in each of B weightings.
        """
        here, below, tied = self._weights(counts)
        auroc = self._auroc(here, below, tied)
        called = here.sum(axis=0) - np.cumsum(here, axis=0) + here  # positives not below the score
        everything = called + below[-1] - below[:-1] + tied
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = np.divide(called, everything, out=np.zeros_like(called), where=here > 0)
            average = np.einsum("sb,sb->b", here, precision) / here.sum(axis=0)
        return auroc, np.where(np.isnan(auroc), np.nan, average)

    def _weights(self, counts: Floats) -> tuple[Floats, Floats, Floats]:
        """At each score the weight of positives [S, B], of negatives not above it [S + 1, B], and just there."""
        below = self.negatives @ counts
        np.cumsum(below, axis=0, out=below)
        tied = np.zeros((1, 1)) if self.tied is None else self.tied @ counts
        return self.positives @ counts, below, tied

    def _auroc(self, here: Floats, below: Floats, tied: Floats) -> Floats:
        won = np.einsum("sb,sb->b", here, below[:-1])
        if self.tied is not None:
            won -= np.einsum("sb,sb->b", here, tied) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(won / (here.sum(axis=0) * below[-1]), np.float64)
