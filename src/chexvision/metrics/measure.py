"""Figures that say how well findings are ranked, called and quantified, with intervals over patients.

Every figure is a function of how often each patient counts: once for the figure itself, and as often as a
resample drew the patient for its interval. So both come out of the same code.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from chexvision.labels import ABNORMAL
from chexvision.metrics.bootstrap import BLOCK, Counts, interval, patient_index, resample_patients
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.ranking import Floats, Ranking
from chexvision.metrics.records import (
    CI,
    MIN_CASES,
    Decision,
    FindingMetrics,
    IntervalMethod,
    MacroMetrics,
    SplitMetrics,
    reason_if_few,
)

_SCORES = ("auroc", "auprc", "brier", "ece")
_CALLS = ("f1", "precision", "recall", "specificity")
FIGURES = (*_SCORES, *_CALLS)
ECE_BINS = 15
FIXED = 0.5  # the threshold where none was chosen

Figures: TypeAlias = dict[str, Floats]  # float64[K, B] by name of `FIGURES`; NaN where undefined


class Measure:
    """The figures of one set of predictions under any weighting of its patients.

    Args:
        predictions: images, raw probabilities and labels. Ranking figures are taken of these.
        calibrated: float[N, K], what Brier score, calibration error and calls are taken of; the raw ones if None.
        thresholds: by name; a name that is missing has no calls.
        only: which of `FIGURES` are wanted; others may be left out.
        fewest: patients with a positive image, and with a negative one, that an output needs; others have NaN.

    Attributes:
        patients: how many there are.
        cases: int64[K, 2], patients with a positive image and with a negative one, by output.
        too_few: why an output has no figures, None where it has; in the columns' order.
    """

    def __init__(
        self,
        predictions: Predictions,
        calibrated: Floats | None = None,
        thresholds: Mapping[str, float] | None = None,
        only: Collection[str] = FIGURES,
        fewest: int = MIN_CASES,
    ) -> None:
        self.predictions = predictions
        index, self.patients = patient_index(predictions.patients)
        self.cases = _cases(predictions.targets, index, self.patients)
        self.too_few = tuple(reason_if_few(positive, negative, fewest) for positive, negative in self.cases.tolist())
        self._auprc = "auprc" in only
        self._rankings = [
            Ranking.of(predictions.probabilities[:, i], predictions.targets[:, i], index, self.patients)
            for i in range(len(predictions.names) if {"auroc", "auprc"} & set(only) else 0)
        ]
        self._sums: Floats | None = None
        if set(only) - {"auroc", "auprc"}:
            probabilities = predictions.probabilities if calibrated is None else calibrated
            cuts = [(thresholds or {}).get(name, np.nan) for name in predictions.names]
            self._sums = _patient_sums(probabilities, predictions.targets, np.array(cuts), index, self.patients)

    def once(self) -> Figures:
        """The figures themselves: every patient counts once; B = 1."""
        return self.under(np.ones((self.patients, 1), np.float32))

    def under(self, counts: Counts | Floats) -> Figures:
        """The figures where patients count float[P, B] times; NaN for outputs with too few cases."""
        figures = self._under(counts)
        lacking = np.array([reason is not None for reason in self.too_few], bool)
        for values in figures.values():
            values[lacking] = np.nan
        return figures

    def _under(self, counts: Counts | Floats) -> Figures:
        figures: Figures = {}
        blocks = [counts[:, at : at + BLOCK].astype(np.float64, order="C") for at in range(0, counts.shape[1], BLOCK)]
        if self._rankings and self._auprc:
            areas = [[ranking.areas(block) for block in blocks] for ranking in self._rankings]
            for i, name in enumerate(("auroc", "auprc")):
                figures[name] = np.stack([np.concatenate([area[i] for area in of]) for of in areas])
        elif self._rankings:
            figures["auroc"] = np.stack(
                [np.concatenate([ranking.auroc(block) for block in blocks]) for ranking in self._rankings]
            )
        if self._sums is None:
            return figures
        patients, outputs, parts = self._sums.shape
        sums = self._sums.reshape(patients, -1).T @ counts.astype(np.float64)
        return figures | _linear_figures(sums.reshape(outputs, parts, -1))

    def totals(self) -> NDArray[np.int64]:
        """int64[K, 4]: true positives, false positives, false negatives, true negatives."""
        if self._sums is None:
            raise ValueError("calls were left out")
        totals: NDArray[np.int64] = np.rint(self._sums[:, :, :4].sum(axis=0)).astype(np.int64)
        return totals


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
    """All figures of a set of predictions.

    Args:
        predictions: images, raw probabilities and labels; not empty.
        calibrated: float[N, K], calibrated probabilities, if there are any.
        thresholds: on the calibrated probabilities, by name; `FIXED` for all if None.
        rule: where the thresholds come from, in words.
        calibration: how `calibrated` was made, in words.
        method: how to make intervals; None makes none.
        fewest: of `Measure`.
    """
    cuts = dict.fromkeys(predictions.names, FIXED) if thresholds is None else thresholds
    measured = Measure(predictions, calibrated, cuts, fewest=fewest)
    figures = measured.once()
    draws = resample_patients(measured.patients, method) if method else None
    resampled = measured.under(draws) if draws is not None else None

    by_name = {
        name: _finding(measured, i, cuts.get(name), figures, resampled, method)
        for i, name in enumerate(predictions.names)
    }
    binary = by_name.pop(ABNORMAL, None)
    return SplitMetrics(
        images=len(predictions),
        patients=measured.patients,
        images_sha256=predictions.images_sha256,
        thresholds=rule,
        calibration=calibration,
        interval=method,
        macro=_macro(predictions.names, figures, resampled, method),
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


def _finding(
    measured: Measure,
    i: int,
    cut: float | None,
    figures: Figures,
    resampled: Figures | None,
    method: IntervalMethod | None,
) -> FindingMetrics:
    """What was measured of column `i`."""
    values: dict[str, Any] = {name: _value(figures[name][i, 0]) for name in FIGURES}
    for name in FIGURES:
        values[f"{name}_ci"] = (
            _interval(name, resampled[name][i], method, values[name]) if resampled and method else None
        )
    decision = None
    if cut is not None:
        tp, fp, fn, tn = measured.totals()[i].tolist()
        decision = Decision(
            threshold=float(cut),
            true_positives=tp,
            false_positives=fp,
            false_negatives=fn,
            true_negatives=tn,
            **{name: value for name, value in values.items() if name.removesuffix("_ci") in _CALLS},
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
        **{name: value for name, value in values.items() if name.removesuffix("_ci") in _SCORES},
    )


def _macro(
    names: tuple[str, ...], figures: Figures, resampled: Figures | None, method: IntervalMethod | None
) -> MacroMetrics:
    columns = macro_columns(names, figures["auroc"][:, 0])
    left_out = tuple(name for i, name in enumerate(names) if name != ABNORMAL and i not in columns)
    if not columns:
        return MacroMetrics(findings=0, left_out=left_out)
    values: dict[str, Any] = {name: _value(macro_of(figures[name], columns)[0]) for name in FIGURES}
    for name in FIGURES:
        draws = macro_of(resampled[name], columns) if resampled else None
        values[f"{name}_ci"] = _interval(name, draws, method, values[name]) if draws is not None and method else None
    defined = {name: int((~np.isnan(figures[name][columns, 0])).sum()) for name in FIGURES}
    fewer = {name: count for name, count in defined.items() if count < len(columns)}
    return MacroMetrics(findings=len(columns), left_out=left_out, fewer=fewer, **values)


def _cases(targets: Floats, index: NDArray[np.int64], patients: int) -> NDArray[np.int64]:
    """Patients with a positive and with a negative image of each of K outputs: int64[K, 2]."""
    counts = np.empty((targets.shape[1], 2), np.int64)
    for i, target in enumerate(targets.T):
        for j, kind in enumerate((1, 0)):
            counts[i, j] = np.count_nonzero(np.bincount(index[target == kind], minlength=patients))
    return counts


def _patient_sums(
    probabilities: Floats, targets: Floats, cuts: Floats, index: NDArray[np.int64], patients: int
) -> Floats:
    """Per patient, output and quantity, what adds up over images: float64[P, K, 6 + bins].

    True and false positives, false and true negatives, squared error, images with a known label; then for each
    bin of probability by how much its images' labels exceed their probabilities.
    """
    known = ~np.isnan(targets)
    positive = targets == 1
    with np.errstate(invalid="ignore"):
        called = probabilities >= cuts
    decided = known & ~np.isnan(cuts)
    rows = np.broadcast_to(index[:, None], targets.shape)
    outputs = targets.shape[1]
    cell = rows * outputs + np.arange(outputs)  # which patient and output
    truth = np.where(known, targets, 0)

    def total(weights: Floats | NDArray[np.bool_]) -> Floats:
        return np.asarray(
            np.bincount(cell.ravel(), weights.ravel().astype(np.float64), patients * outputs), np.float64
        )

    sums = np.empty((patients * outputs, 6 + ECE_BINS))
    sums[:, 0] = total(decided & positive & called)
    sums[:, 1] = total(decided & ~positive & called)
    sums[:, 2] = total(decided & positive & ~called)
    sums[:, 3] = total(decided & ~positive & ~called)
    sums[:, 4] = total(np.where(known, (probabilities - truth) ** 2, 0))
    sums[:, 5] = total(known)
    bins = np.minimum((probabilities * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    place = (cell * ECE_BINS + bins).ravel()
    excess = np.where(known, truth - probabilities, 0).ravel()
    sums[:, 6:] = np.bincount(place, excess, patients * outputs * ECE_BINS).reshape(-1, ECE_BINS)
    return sums.reshape(patients, outputs, -1)


def _linear_figures(sums: Floats) -> Figures:
    """Figures of float64[K, 6 + bins, B]."""
    tp, fp, fn, tn, squared, images = (sums[:, i] for i in range(6))
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "brier": squared / images,
            # A bin's share times its distance is its summed excess over all images.
            "ece": np.abs(sums[:, 6:]).sum(axis=1) / images,
            "f1": np.where(tp + fn > 0, 2 * tp / (2 * tp + fp + fn), np.nan),
            "precision": tp / (tp + fp),
            "recall": tp / (tp + fn),
            "specificity": tn / (tn + fp),
        }


def _interval(name: str, draws: Floats, method: IntervalMethod, value: float | None) -> CI:
    return interval(draws, method.level, unbiased_for=value if name in method.shifted else None)


def _value(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
