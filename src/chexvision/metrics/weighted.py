"""What metrics are computed of, under any weighting of the patients.

Every metric is a function of how often each patient counts: once for the value itself, and as often as a resample
contains the patient for its interval. So both come out of the same code.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from chexvision.metrics.bootstrap import BLOCK, Counts, patient_index
from chexvision.metrics.catalog import METRICS
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.ranking import Floats, Ranking
from chexvision.metrics.records import MIN_CASES, reason_if_few

ECE_BINS = 15

Values: TypeAlias = dict[str, Floats]  # float64[K, B] by name of metric; NaN where undefined


class Measure:
    """The metrics of one set of predictions under any weighting of its patients.

    Args:
        predictions: images, raw probabilities and labels. Ranking metrics are computed of these.
        calibrated: float[N, K], what calibration metrics and decisions are computed of; the raw ones if None.
        thresholds: by name; a name that is missing has no decisions.
        only: which of `METRICS` are wanted; all if None.
        fewest: patients with a positive image, and with a negative one, that an output needs; others have NaN.

    Attributes:
        patients: how many there are.
        cases: int64[K, 2], patients with a positive image and with a negative one, by output.
        too_few: why an output has no values, None where it has; in the columns' order.
    """

    def __init__(
        self,
        predictions: Predictions,
        calibrated: Floats | None = None,
        thresholds: Mapping[str, float] | None = None,
        only: Collection[str] | None = None,
        fewest: int = MIN_CASES,
    ) -> None:
        self.predictions = predictions
        self.index, self.patients = patient_index(predictions.patients)
        columns = predictions.targets.T
        self.cases = np.array([[len(np.unique(self.index[of == kind])) for kind in (1, 0)] for of in columns])
        self.too_few = tuple(reason_if_few(positive, negative, fewest) for positive, negative in self.cases.tolist())
        self.only = [name for name in METRICS if only is None or name in only]
        self._probabilities = predictions.probabilities if calibrated is None else calibrated
        self._thresholds = np.array([(thresholds or {}).get(name, np.nan) for name in predictions.names])

    def once(self) -> Values:
        """The values themselves: every patient counts once; B = 1."""
        return self.under(np.ones((self.patients, 1), np.float32))

    def under(self, counts: Counts | Floats) -> Values:
        """The values where patients count float[P, B] times; NaN for outputs with too few cases."""
        weighted = Weighted(self, counts)
        enough = np.array([[reason is None] for reason in self.too_few], bool)
        with np.errstate(divide="ignore", invalid="ignore"):
            return {name: np.where(enough, METRICS[name].compute(weighted), np.nan) for name in self.only}

    def totals(self) -> NDArray[np.int64]:
        """int64[K, 4]: true positives, false positives, false negatives, true negatives."""
        totals: NDArray[np.int64] = np.rint(self.sums[:, :, :4].sum(axis=0)).astype(np.int64)
        return totals

    @cached_property
    def rankings(self) -> list[Ranking]:
        """One per output."""
        columns = zip(self.predictions.probabilities.T, self.predictions.targets.T, strict=True)
        return [Ranking.of(scores, targets, self.index, self.patients) for scores, targets in columns]

    @cached_property
    def sums(self) -> Floats:
        """Per patient, output and quantity, what adds up over images: float64[P, K, 6 + ECE_BINS].

        True and false positives, false and true negatives, squared error, images with a known label; then for each
        bin of probability by how much its images' labels exceed their probabilities.
        """
        targets = self.predictions.targets
        known = ~np.isnan(targets)
        positive = targets == 1
        with np.errstate(invalid="ignore"):
            called = self._probabilities >= self._thresholds
        decided = known & ~np.isnan(self._thresholds)
        rows = np.broadcast_to(self.index[:, None], targets.shape)
        outputs = targets.shape[1]
        cell = rows * outputs + np.arange(outputs)  # which patient and output
        truth = np.where(known, targets, 0)

        def total(weights: Floats | NDArray[np.bool_]) -> Floats:
            return np.asarray(
                np.bincount(cell.ravel(), weights.ravel().astype(np.float64), self.patients * outputs), np.float64
            )

        sums = np.empty((self.patients * outputs, 6 + ECE_BINS))
        sums[:, 0] = total(decided & positive & called)
        sums[:, 1] = total(decided & ~positive & called)
        sums[:, 2] = total(decided & positive & ~called)
        sums[:, 3] = total(decided & ~positive & ~called)
        sums[:, 4] = total(np.where(known, (self._probabilities - truth) ** 2, 0))
        sums[:, 5] = total(known)
        bins = np.minimum((self._probabilities * ECE_BINS).astype(np.int64), ECE_BINS - 1)
        cell_bin = (cell * ECE_BINS + bins).ravel()
        excess = np.where(known, truth - self._probabilities, 0).ravel()
        sums[:, 6:] = np.bincount(cell_bin, excess, self.patients * outputs * ECE_BINS).reshape(-1, ECE_BINS)
        return sums.reshape(self.patients, outputs, -1)


class Sums(NamedTuple):
    """Weights summed over images, float64[K, B] each. The first four are 0 without a threshold.

    `bin_excess`, float64[K, ECE_BINS, B], is by how much labels exceed probabilities in bins of equal width.
    """

    true_positives: Floats
    false_positives: Floats
    false_negatives: Floats
    true_negatives: Floats
    squared_error: Floats
    images: Floats
    bin_excess: Floats


class Weighted:
    """K outputs under B weightings of the patients; what no metric asks for is not computed.

    Args:
        measure: of which predictions.
        counts: float[P, B], how often each patient counts.
    """

    def __init__(self, measure: Measure, counts: Counts | Floats) -> None:
        self._measure = measure
        self._counts = counts

    @cached_property
    def auroc(self) -> Floats:
        """Area under the ROC curve, ties counted half: float64[K, B]."""
        if "auprc" in self._measure.only:
            return self._areas[0]
        return np.stack(
            [np.concatenate([of.auroc(block) for block in self._blocks]) for of in self._measure.rankings]
        )

    @property
    def auprc(self) -> Floats:
        """Average precision: float64[K, B]."""
        return self._areas[1]

    @cached_property
    def sums(self) -> Sums:
        """Sums over the images whose label is known."""
        patients, outputs, parts = self._measure.sums.shape
        sums = self._measure.sums.reshape(patients, -1).T @ self._counts.astype(np.float64)
        sums = sums.reshape(outputs, parts, -1)
        tp, fp, fn, tn, squared_error, images = (sums[:, i] for i in range(6))
        return Sums(tp, fp, fn, tn, squared_error, images, sums[:, 6:])

    @cached_property
    def _blocks(self) -> list[Floats]:
        starts = range(0, self._counts.shape[1], BLOCK)
        return [self._counts[:, at : at + BLOCK].astype(np.float64, order="C") for at in starts]

    @cached_property
    def _areas(self) -> tuple[Floats, Floats]:
        areas = [[ranking.areas(block) for block in self._blocks] for ranking in self._measure.rankings]
        auroc, auprc = (np.stack([np.concatenate([area[i] for area in of]) for of in areas]) for i in (0, 1))
        return auroc, auprc
