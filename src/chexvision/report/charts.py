"""The charts of an evaluation: ROC, precision-recall, calibration and score distribution of each output."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np

from chexvision.metrics.operating_points import OperatingPoints
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.ranking import Floats
from chexvision.metrics.records import Decision, FindingMetrics, SplitMetrics
from chexvision.report.svg import MAIN, OTHER, SOFT, Line, chart, sheet, thinned
from chexvision.report.wording import output_name

_CALIBRATION_BINS = 10
_HISTOGRAM_BINS = 24
_COLUMNS = 5  # of charts in a row


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
    """Frequency of the finding at each predicted probability, in bins of equal numbers of images."""
    curves = [_reliability(raw, targets)]
    if calibrated is not None:
        curves.append(_reliability(calibrated, targets))
    top = _round_up(max(float(part.max()) for curve in curves for part in curve))
    colors = [SOFT, MAIN] if calibrated is not None else [MAIN]
    return chart(
        title,
        [
            Line(*curve, color=color, dots=color == MAIN, dashed=color == SOFT)
            for curve, color in zip(curves, colors, strict=True)
        ],
        x_label="predicted",
        y_label="observed",
        x_max=top,
        y_max=top,
        diagonal=True,
    )


def histogram_chart(title: str, scores: Floats, targets: Floats, decision: Decision | None) -> ET.Element:
    """The shares of positives and of negatives at each probability, with the threshold."""
    top = _round_up(float(np.quantile(scores, 0.999)))
    edges = np.linspace(0, top, _HISTOGRAM_BINS + 1)
    lines = []
    for kind, color in ((0, MAIN), (1, OTHER)):
        shares, _ = np.histogram(scores[targets == kind].clip(0, top), edges)
        x, y = np.repeat(edges, 2)[1:-1], np.repeat(shares / max(1, shares.sum()), 2)
        lines.append(Line(x, y, color=color, filled=True))
    highest = _round_up(max(float(line.y.max()) for line in lines))
    return chart(
        title,
        lines,
        x_label="probability",
        y_label="share of images",
        x_max=top,
        y_max=highest,
        rule=decision.threshold if decision else None,
    )


def known(predictions: Predictions, i: int) -> tuple[Floats, Floats]:
    """Scores and targets, float[N], of column `i` where its label is known."""
    chosen = ~np.isnan(predictions.targets[:, i])
    return predictions.probabilities[chosen, i], predictions.targets[chosen, i]


def _reliability(scores: Floats, targets: Floats) -> tuple[Floats, Floats]:
    # Few positives do not support many bins.
    bins = int(np.clip(targets.sum() // 4, 3, _CALIBRATION_BINS))
    parts = np.array_split(np.argsort(scores, kind="stable"), min(bins, len(scores)))
    return np.array([scores[part].mean() for part in parts]), np.array([targets[part].mean() for part in parts])


def _round_up(value: float) -> float:
    steps = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
    return next((step for step in steps if value <= step), 1.0)


def curve_sheets(predictions: Predictions, points: OperatingPoints, metrics: SplitMetrics) -> dict[str, str]:
    """ROC, precision-recall and calibration curves of all outputs: SVG by file name.

    Args:
        predictions: raw.
        points: what calibrates them.
        metrics: of the same images.
    """
    calibrated = predictions.with_probabilities(points.calibrate(predictions.names, predictions.probabilities))
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
