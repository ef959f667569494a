"""The charts of an evaluation: ROC, precision-recall, calibration and score distribution of each output.

Charts of one kind have the same axes for every output, so that outputs can be compared. Probabilities are on axes of
square roots: those of a finding that 2 % of the images have would all be in one corner otherwise.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from chexvision.metrics.operating_points import OperatingPoints
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.ranking import Floats
from chexvision.metrics.records import Decision, FindingMetrics, SplitMetrics
from chexvision.report.svg import MAIN, OTHER, SOFT, Line, chart, sheet, thinned
from chexvision.report.wording import output_name

_CALIBRATION_BINS = 10
_EDGES = np.linspace(0, 1, 25) ** 2  # of the bins of histograms, equally wide on an axis of square roots
_COLUMNS = 3  # of charts in a row: a card is 700 to 800 pixels wide


def roc_chart(title: str, scores: Floats, targets: Floats, of: FindingMetrics) -> ET.Element:
    """The ROC curve of float[N] scores, with the threshold circled."""
    from sklearn.metrics import roc_curve  # half a second to import

    false, true, _ = roc_curve(targets, scores)
    specificity, recall = of["specificity"].value, of["recall"].value
    marker = None if specificity is None or recall is None else (1 - specificity, recall)
    return chart(
        title,
        [Line(*thinned(false, true))],
        x_label="1 - specificity",
        y_label="sensitivity",
        diagonal=True,
        marker=marker,
    )


def pr_chart(title: str, scores: Floats, targets: Floats, of: FindingMetrics) -> ET.Element:
    """The precision-recall curve of float[N] scores, with the threshold circled and the prevalence dashed."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(targets, scores)
    marker = of["recall"].value, of["precision"].value
    return chart(
        title,
        # The last point is a convention, not an image.
        [Line(*thinned(recall[:-1], precision[:-1]))],
        x_label="recall",
        y_label="precision",
        marker=None if marker[0] is None or marker[1] is None else (marker[0], marker[1]),
        level=float(targets.mean()),
    )


def calibration_chart(title: str, raw: Floats, calibrated: Floats | None, targets: Floats) -> ET.Element:
    """Frequency of the finding at each predicted probability, in bins of equal size, with their counts."""
    final = raw if calibrated is None else calibrated
    bins = _bins(final, targets)
    curves = [Line(*_reliability(final, targets, bins), dots=True)]
    if calibrated is not None:
        curves.insert(0, Line(*_reliability(raw, targets, _bins(raw, targets)), color=SOFT, dashed=True))
    sizes = sorted({len(part) for part in bins})
    return chart(
        title,
        curves,
        x_label="predicted",
        y_label="observed",
        diagonal=True,
        root="both",
        counts=(
            f"positives in each bin of {' or '.join(f'{size:,}' for size in sizes)} images",
            [f"{int(targets[part].sum())}" for part in bins],
        ),
    )


def histogram_chart(
    title: str, scores: Floats, targets: Floats, decision: Decision | None, highest: float
) -> ET.Element:
    """The shares of positives and of negatives at each probability up to `highest`, with the threshold."""
    lines = [
        Line(np.repeat(_EDGES, 2)[1:-1], np.repeat(shares, 2), color=color, filled=True)
        for shares, color in zip(_shares(scores, targets), (MAIN, OTHER), strict=True)
    ]
    return chart(
        title,
        lines,
        x_label="probability",
        y_label="share of images",
        y_max=highest,
        rule=decision.threshold if decision else None,
        root="x",
    )


def highest_share(outputs: Iterable[tuple[Floats, Floats]]) -> float:
    """The upper end of the axis that `histogram_chart` needs for scores and targets of all outputs."""
    return _round_up(
        max((float(share.max()) for output in outputs for share in _shares(*output)), default=1.0),
    )


def _shares(scores: Floats, targets: Floats) -> list[Floats]:
    """Of the negatives and of the positives, the share in each bin of `_EDGES`."""
    counts = [np.histogram(scores[targets == kind], _EDGES)[0] for kind in (0, 1)]
    return [of / max(1, of.sum()) for of in counts]


def known(predictions: Predictions, i: int) -> tuple[Floats, Floats]:
    """Scores and targets, float[N], of column `i` where its label is known."""
    chosen = ~np.isnan(predictions.targets[:, i])
    return predictions.probabilities[chosen, i], predictions.targets[chosen, i]


def _bins(scores: Floats, targets: Floats) -> list[NDArray[np.int64]]:
    """The images from the lowest score to the highest, in parts of equal size."""
    # Few positives do not support many bins.
    bins = int(np.clip(targets.sum() // 4, 3, _CALIBRATION_BINS))
    return np.array_split(np.argsort(scores, kind="stable"), min(bins, len(scores)))


def _reliability(scores: Floats, targets: Floats, bins: list[NDArray[np.int64]]) -> tuple[Floats, Floats]:
    return np.array([scores[part].mean() for part in bins]), np.array([targets[part].mean() for part in bins])


def _round_up(value: float) -> float:
    steps = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
    return next((step for step in steps if value <= step), 1.0)


def curve_sheets(predictions: Predictions, points: OperatingPoints, metrics: SplitMetrics) -> dict[str, str]:
    """ROC, precision-recall and calibration curves of all outputs: SVG by file name.

    Args:
        predictions: raw.
        points: what calibrates them.
        metrics: of the same images.
    """
    calibrated = points.calibrated(predictions)
    charts: dict[str, list[ET.Element]] = {"roc.svg": [], "precision-recall.svg": [], "calibration.svg": []}
    for i, name in enumerate(predictions.names):
        of = metrics.findings.get(name, metrics.binary)
        if of is None or not (of.positives and of.negatives):
            continue
        title, (scores, targets) = output_name(name), known(predictions, i)
        final = known(calibrated, i)[0] if points.calibration else None
        charts["roc.svg"].append(roc_chart(title, scores, targets, of))
        charts["precision-recall.svg"].append(pr_chart(title, scores, targets, of))
        charts["calibration.svg"].append(calibration_chart(title, scores, final, targets))
    return {name: sheet(of, _COLUMNS) for name, of in charts.items() if of}
