"""How well findings are ranked, called and quantified, with intervals over patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from chexvision.labels import ABNORMAL
from chexvision.metrics.bootstrap import estimate, resample_patients
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.ranking import Floats
from chexvision.metrics.records import (
    MIN_CASES,
    Decision,
    Estimate,
    FindingMetrics,
    IntervalMethod,
    MacroMetrics,
    SplitMetrics,
)
from chexvision.metrics.weighted import Measure, Values

FIXED = 0.5  # the threshold where none was chosen


@dataclass(frozen=True, slots=True)
class Sampled:
    """Metrics of predictions, once and in each resample of the patients; see `sample`.

    Args:
        measured: of which predictions.
        thresholds: by name.
        values: float64[K, 1] by name of metric.
        draws: float64[K, resamples] by name of metric; None without `method`.
        method: how resamples are drawn.
    """

    measured: Measure
    thresholds: Mapping[str, float]
    values: Values
    draws: Values | None
    method: IntervalMethod | None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the K columns."""
        return self.measured.predictions.names

    @property
    def defined(self) -> list[int]:
        """The columns of findings that have enough cases."""
        return macro_columns(self.names, self.values["auroc"][:, 0])

    def estimates(self, columns: list[int]) -> dict[str, Estimate]:
        """Of the means over some columns."""
        return {
            name: estimate(
                macro_of(value, columns)[0],
                macro_of(self.draws[name], columns) if self.draws else None,
                self.method.level if self.method else None,
                shifted=self.method is not None and name in self.method.shifted,
            )
            for name, value in self.values.items()
        }

    def means(self, columns: list[int], left_out: tuple[str, ...] = ()) -> MacroMetrics:
        """Means over findings, which have enough cases."""
        counts = {name: int((~np.isnan(of[columns, 0])).sum()) for name, of in self.values.items()}
        return MacroMetrics(
            findings=len(columns),
            left_out=left_out,
            fewer={name: count for name, count in counts.items() if count < len(columns)},
            estimates=self.estimates(columns) if columns else {},
        )

    def metrics(self, rule: str, calibration: str) -> SplitMetrics:
        """All of it as a record; the arguments say in words where thresholds and calibration come from."""
        by_name = {
            name: _finding(self.measured, i, self.thresholds.get(name), self.estimates([i]))
            for i, name in enumerate(self.names)
        }
        binary, defined = by_name.pop(ABNORMAL, None), self.defined
        left_out = tuple(name for i, name in enumerate(self.names) if name in by_name and i not in defined)
        return SplitMetrics(
            images=len(self.measured.predictions),
            patients=self.measured.patients,
            images_sha256=self.measured.predictions.images_sha256,
            thresholds=rule,
            calibration=calibration,
            interval=self.method,
            macro=self.means(defined, left_out),
            binary=binary,
            findings=by_name,
        )


def sample(
    predictions: Predictions,
    calibrated: Floats | None,
    thresholds: Mapping[str, float],
    method: IntervalMethod | None,
    fewest: int = MIN_CASES,
) -> Sampled:
    """Measure predictions once and in each resample of their patients; see `measure`."""
    measured = Measure(predictions, calibrated, thresholds, fewest=fewest)
    draws = measured.under(resample_patients(measured.patients, method)) if method else None
    return Sampled(measured, thresholds, measured.once(), draws, method)


def measure(
    predictions: Predictions,
    *,
    calibrated: Floats | None = None,
    thresholds: Mapping[str, float] | None = None,
    rule: str = f"fixed at {FIXED}",
    calibration: str = "none",
    method: IntervalMethod | None = None,
    fewest: int = MIN_CASES,
) -> SplitMetrics:
    """All metrics of a set of predictions.

    Args:
        predictions: images, raw probabilities and labels; not empty.
        calibrated: float[N, K], calibrated probabilities, if there are any.
        thresholds: on the calibrated probabilities, by name; `FIXED` for all if None.
        rule: where the thresholds come from, in words.
        calibration: how `calibrated` was made, in words.
        method: how to make intervals; None makes none.
        fewest: of `Measure`.
    """
    if thresholds is None:
        thresholds = dict.fromkeys(predictions.names, FIXED)
    return sample(predictions, calibrated, thresholds, method, fewest).metrics(rule, calibration)


def macro_columns(names: tuple[str, ...], auroc: Floats) -> list[int]:
    """The columns that a macro mean runs over: findings whose AUROC, float64[K], is defined."""
    return [i for i, name in enumerate(names) if name != ABNORMAL and not np.isnan(auroc[i])]


def macro_of(values: Floats, columns: list[int]) -> Floats:
    """Mean of float64[K, B] over `columns`: float64[B]; a resample's mean runs over what it defines."""
    chosen = values[columns]
    defined = ~np.isnan(chosen)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, chosen, 0).sum(axis=0) / defined.sum(axis=0), np.float64)


def _finding(measured: Measure, i: int, threshold: float | None, estimates: dict[str, Estimate]) -> FindingMetrics:
    decision = None
    if threshold is not None:
        tp, fp, fn, tn = measured.totals()[i].tolist()
        decision = Decision(
            threshold=float(threshold), true_positives=tp, false_positives=fp, false_negatives=fn, true_negatives=tn
        )
    target = measured.predictions.targets[:, i]
    positive_patients, negative_patients = measured.cases[i].tolist()
    return FindingMetrics(
        positives=int((target == 1).sum()),
        negatives=int((target == 0).sum()),
        unknown=int(np.isnan(target).sum()),
        positive_patients=positive_patients,
        negative_patients=negative_patients,
        too_few=measured.too_few[i],
        decision=decision,
        estimates=estimates,
    )
