"""How well findings are ranked, called and quantified, with intervals over patients."""

from __future__ import annotations

from collections.abc import Mapping

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
from chexvision.metrics.weighted import Measure

FIXED = 0.5  # the threshold where none was chosen


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
    measured = Measure(predictions, calibrated, thresholds, fewest=fewest)
    values = measured.once()
    resampled = measured.under(resample_patients(measured.patients, method)) if method else None
    columns = macro_columns(predictions.names, values["auroc"][:, 0])

    def estimates(of: list[int]) -> dict[str, Estimate]:
        """Of the means over some columns."""
        return {
            name: estimate(
                macro_of(value, of)[0],
                macro_of(resampled[name], of) if resampled else None,
                method.level if method else None,
                shifted=method is not None and name in method.shifted,
            )
            for name, value in values.items()
        }

    by_name = {
        name: _finding(measured, i, thresholds.get(name), estimates([i])) for i, name in enumerate(predictions.names)
    }
    binary = by_name.pop(ABNORMAL, None)
    defined = {name: int((~np.isnan(of[columns, 0])).sum()) for name, of in values.items()}
    return SplitMetrics(
        images=len(predictions),
        patients=measured.patients,
        images_sha256=predictions.images_sha256,
        thresholds=rule,
        calibration=calibration,
        interval=method,
        macro=MacroMetrics(
            findings=len(columns),
            left_out=tuple(name for i, name in enumerate(predictions.names) if name in by_name and i not in columns),
            fewer={name: count for name, count in defined.items() if count < len(columns)},
            estimates=estimates(columns) if columns else {},
        ),
        binary=binary,
        findings=by_name,
    )


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
