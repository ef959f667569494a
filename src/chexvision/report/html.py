"""What an evaluation leaves in its folder: the figures, the predictions, the rules, and a page to read them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from chexvision.errors import UsageError
from chexvision.evaluation.outcome import Evaluation, Outcome
from chexvision.files.atomic_folder import atomic_folder
from chexvision.inference.predictions_file import write_predictions
from chexvision.labels import FINDINGS
from chexvision.metrics import calibration, thresholds
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.records import FindingMetrics, SplitMetrics
from chexvision.radiograph import resize_area
from chexvision.report.charts import (
    calibration_chart,
    histogram_chart,
    known,
    pr_chart,
    roc_chart,
    title_of,
)
from chexvision.report.console_tables import conditions
from chexvision.report.html_tables import (
    comparison_table,
    findings_table,
    literature_table,
    other_set_table,
    prior_shift_table,
    subgroup_table,
    systems_table,
    table,
)
from chexvision.report.wording import about_means, figure

_THUMBNAIL = 150  # pixels
_MISTAKES = 3  # of each kind and output


def write_report(outcome: Outcome, out: Path) -> None:
    """Write ``metrics.json``, ``predictions.parquet``, ``thresholds.json``, ``calibration.json`` and ``report.html``.

    With several systems the predictions of each further one go to ``predictions/``; the folder's own are of the
    last, which combines all.

    Args:
        outcome: of `evaluate`.
        out: new or empty folder, or one of an earlier evaluation.

    Raises:
        UsageError: the folder holds something else.
    """
    refuse_other_content(out)
    with atomic_folder(out) as partial:
        (partial / "metrics.json").write_text(outcome.evaluation.model_dump_json(indent=1) + "\n", encoding="utf-8")
        write_predictions(partial / "predictions.parquet", outcome.main.predictions)
        for number, system in enumerate(outcome.systems[:-1], 1):
            write_predictions(partial / "predictions" / f"{number}.parquet", system.predictions)
        rules = outcome.main.rules
        for name, rule in ((thresholds.FILE, rules.thresholds), (calibration.FILE, rules.calibration)):
            if rule is not None:
                (partial / name).write_text(rule.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (partial / "report.html").write_text(render_report(outcome), encoding="utf-8")


def render_report(outcome: Outcome) -> str:
    """The page: everything inline, no address outside of it."""
    found = outcome.evaluation
    main = found.systems[-1]
    title = f"{main.name} on {found.split}"
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    sections = [
        _head(title, found, main.metrics),
        "<h2>By finding</h2>",
        findings_table(main.metrics),
        _confusion(main.metrics),
        *([prior_shift_table(main.metrics.prior_shift)] if main.metrics.prior_shift else []),
        *([systems_table(found)] if len(found.systems) > 1 else []),
        *[comparison_table(comparison) for comparison in found.comparisons],
        *(["<h2>Subgroups</h2>"] if found.subgroups else []),
        *[subgroup_table(attribute) for attribute in found.subgroups],
        *[other_set_table(other) for other in (found.expert, found.external) if other is not None],
        *([literature_table(found)] if found.published else []),
        "<h2>Curves and worst mistakes</h2>",
        "<p class='soft key'>Rings and upright lines mark the threshold."
        "<i style='background:var(--main)'></i>negatives<i style='background:var(--other)'></i>positives. "
        "Calibration: dashed grey before, blue after.</p>",
        *_findings(outcome, main.metrics),
        _conditions(found, main.metrics),
    ]
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{style}</style></head>\n<body><main>\n"
        + "\n".join(sections)
        + "\n</main></body></html>\n"
    )


def _head(title: str, found: Evaluation, metrics: SplitMetrics) -> str:
    macro, binary = metrics.macro, metrics.binary
    cards = [
        (f"macro AUROC over {macro.findings} findings", macro.auroc, macro.auroc_ci),
        (f"macro AUPRC over {macro.findings} findings", macro.auprc, macro.auprc_ci),
        ("AUROC normal/abnormal", binary.auroc if binary else None, binary.auroc_ci if binary else None),
        ("macro F1 at the thresholds", macro.f1, macro.f1_ci),
    ]
    boxes = "".join(
        f"<div class='card'><span class='soft'>{label}</span><b>{figure(value)}</b>"
        f"<span class='soft'>{f'{ci[0]:.3f} to {ci[1]:.3f}' if ci else 'no interval'}</span></div>"
        for label, value, ci in cards
    )
    warnings = [
        *(["These images are synthetic: the figures say nothing about patients."] * found.synthetic),
        *found.notes,
        *about_means(macro),
    ]
    return (
        f"<h1>{escape(title)}</h1><p class='soft'>{escape(conditions(metrics))}. For research only.</p>"
        + "".join(f"<p class='card warn'>{escape(text)}</p>" for text in warnings)
        + f"<div class='heads'>{boxes}</div>"
    )


def _confusion(metrics: SplitMetrics) -> str:
    at = metrics.binary.decision if metrics.binary else None
    if at is None:
        return ""
    rows = [
        ["labelled abnormal", f"{at.true_positives:,}", f"{at.false_negatives:,}"],
        ["labelled normal", f"{at.false_positives:,}", f"{at.true_negatives:,}"],
    ]
    return table(["", "called abnormal", "called normal"], rows, f"Normal/abnormal at threshold {at.threshold:.3f}")


def _findings(outcome: Outcome, metrics: SplitMetrics) -> list[str]:
    raw, calibrated = outcome.main.predictions, outcome.main.calibrated
    parts = []
    for i, name in enumerate(raw.names):
        of = metrics.findings.get(name, metrics.binary)
        if of is None:
            continue
        head = (
            f"<header><h3>{title_of(name)}</h3><span class='soft'>{of.positives:,} positives, {of.negatives:,} "
            f"negatives · AUROC {figure(of.auroc, of.auroc_ci, too_few=of.too_few)}</span></header>"
        )
        if not (of.positives and of.negatives):
            parts.append(
                f"<section class='card finding'>{head}<p class='soft'>{escape(of.too_few or '')}</p></section>"
            )
            continue
        fitted = outcome.main.rules.calibration is not None
        parts.append(
            f"<section class='card finding'>{head}{_plots(raw, calibrated, i, of, fitted)}"
            f"<details><summary>Worst mistakes</summary>{_mistakes(outcome, calibrated, i)}</details></section>"
        )
    return parts


def _plots(raw: Predictions, calibrated: Predictions, i: int, of: FindingMetrics, fitted: bool) -> str:
    scores, targets = known(raw, i)
    final, _ = known(calibrated, i)
    charts = [
        roc_chart("ROC", scores, targets, of),
        pr_chart("Precision-recall", scores, targets, of),
        calibration_chart("Calibration", scores, final if fitted else None, targets),
        histogram_chart("Scores", final, targets, of.decision),
    ]
    return f"<div class='plots'>{''.join(charts)}</div>"


def _mistakes(outcome: Outcome, calibrated: Predictions, i: int) -> str:
    """Thumbnails of the negatives that look most positive and of the positives that look least so."""
    scores, targets = calibrated.probabilities[:, i], calibrated.targets[:, i]
    order = np.argsort(scores, kind="stable")
    negatives = [int(at) for at in order[::-1] if targets[at] == 0][:_MISTAKES]
    positives = [int(at) for at in order if targets[at] == 1][:_MISTAKES]
    figures = []
    for at, kind in [*((at, "no") for at in negatives), *((at, "yes") for at in positives)]:
        named = calibrated.targets[at] == 1
        labels = [title_of(name) for name, there in zip(FINDINGS, named, strict=False) if there]
        name = escape(str(calibrated.filenames[at]))
        figures.append(
            f"<figure><img src='{_thumbnail(outcome.images[at])}' alt='{name}'><figcaption>"
            f"<b>{scores[at]:.3f}, label {kind}</b><br>{escape(', '.join(labels) or 'No Finding')}<br>"
            f"<span>{name}</span></figcaption></figure>"
        )
    return f"<div class='mistakes'>{''.join(figures)}</div>"


def _thumbnail(image: NDArray[np.uint8]) -> str:
    small = resize_area(np.ascontiguousarray(image), min(_THUMBNAIL, image.shape[0]))
    done, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 82])
    if not done:
        raise ValueError("OpenCV could not encode a thumbnail")
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def _conditions(found: Evaluation, metrics: SplitMetrics) -> str:
    rows: Sequence[Sequence[str]] = [
        ["data", found.dataset],
        ["split", f"{found.split}, divided by {found.split_rule or 'the shards'}"],
        ["images", f"{metrics.images:,} of {metrics.patients:,} patients, names' sha256 {metrics.images_sha256}"],
        ["thresholds", metrics.thresholds],
        ["calibration", metrics.calibration],
        ["intervals", conditions(metrics).split("; ")[-1]],
        ["precision", found.precision],
        ["made by", f"chexvision {found.version}"],
    ]
    return "<h2>Conditions</h2>" + table(["", ""], rows, None, text_from=1)


def refuse_other_content(out: Path) -> None:
    """Raise UsageError unless `out` is new, empty, or an earlier evaluation's."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "report.html").is_file())):
        raise UsageError(f"--out {out} holds something else than an evaluation; name a new folder")
