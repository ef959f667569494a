"""The metrics of an output's probabilities, in the order of tables.

A new metric is one entry of `METRICS`; where it needs sums over images that no other metric needs, these go into
`chexvision.metrics.weighted`. Records, tables, cards and reports iterate over the entries. Needs no numpy to import.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chexvision.metrics.ranking import Floats
    from chexvision.metrics.weighted import Weighted


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Args:
        name: its key in records and files.
        title: heads its column.
        compute: float64[K, B] of K outputs under B weightings of the patients; NaN where undefined.
        higher_is_better: its direction.
        digits: shown after the decimal point.
        at_threshold: whether it is computed from decisions at a threshold.
        shifted: whether resampling itself raises it, so that its interval is moved back by the mean rise.
        terminal: title in a terminal's table, which has room for few columns; None leaves it out there.
        hub: the Hub's metric id, under which a model card reports the macro mean; None leaves it out there.
    """

    name: str
    title: str
    compute: Callable[[Weighted], Floats]
    higher_is_better: bool = True
    digits: int = 3
    at_threshold: bool = False
    shifted: bool = False
    terminal: str | None = None
    hub: str | None = None


def _f1(of: Weighted) -> Floats:
    import numpy as np

    tp, fp, fn, *_ = of.sums
    return np.where(tp + fn > 0, 2 * tp / (2 * tp + fp + fn), np.nan)


def _share(part: Floats, other: Floats) -> Floats:
    return part / (part + other)


def _brier(of: Weighted) -> Floats:
    return of.sums.squared_error / of.sums.images


def _ece(of: Weighted) -> Floats:
    # A bin's share times its distance is its summed excess over all images.
    ece: Floats = abs(of.sums.bin_excess).sum(axis=1) / of.sums.images
    return ece


_CATALOG = (
    Metric("auroc", "AUROC", lambda of: of.auroc, terminal="AUROC", hub="roc_auc"),
    # Repeated images rank alike, which raises the average precision of a resample; noise adds to a distance.
    Metric("auprc", "AUPRC", lambda of: of.auprc, shifted=True, terminal="AUPRC", hub="average_precision"),
    Metric("f1", "F1", _f1, at_threshold=True, terminal="F1", hub="f1"),
    Metric(
        "precision",
        "precision",
        lambda of: _share(of.sums.true_positives, of.sums.false_positives),
        at_threshold=True,
    ),
    Metric(
        "recall",
        "recall",
        lambda of: _share(of.sums.true_positives, of.sums.false_negatives),
        at_threshold=True,
        terminal="recall",
    ),
    Metric(
        "specificity",
        "specificity",
        lambda of: _share(of.sums.true_negatives, of.sums.false_positives),
        at_threshold=True,
        terminal="spec.",
    ),
    Metric("brier", "Brier score", _brier, higher_is_better=False, hub="brier_score"),
    Metric("ece", "ECE", _ece, higher_is_better=False, shifted=True, terminal="ECE"),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _CATALOG}
