"""The folder of an evaluation: metrics, predictions, operating points, and an HTML report of them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from chexvision.artifact.metrics_file import Evaluation
from chexvision.errors import UsageError
from chexvision.evaluation.outcome import Outcome
from chexvision.files.atomic_folder import atomic_folder
from chexvision.images.radiograph import resize_area
from chexvision.inference.predictions_file import write_predictions
from chexvision.labels import ABNORMAL
from chexvision.metrics.catalog import METRICS
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.records import UNDEFINED, Estimate, SplitMetrics
from chexvision.predict.operating_files import save_operating_points
from chexvision.report.charts import calibration_chart, histogram_chart, known, pr_chart, roc_chart
from chexvision.report.evaluation_tables import conditions, metrics_table, sections
from chexvision.report.svg import interval_bar, svg_text
from chexvision.report.table import Column, Table, row
from chexvision.report.wording import number, output_name
from chexvision.templating import render

_THUMBNAIL = 150  # pixels
_MISTAKES = 3  # of each kind and output
_HEADLINES = ("auroc", "auprc", "f1")  # metrics whose means stand at the top


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
        save_operating_points(outcome.main.points, partial)
        (partial / "report.html").write_text(render_report(outcome), encoding="utf-8")


def render_report(outcome: Outcome) -> str:
    """The HTML page. It contains everything that it shows and refers to nothing outside."""
    found, metrics = outcome.evaluation, outcome.evaluation.systems[-1].metrics
    macro, binary = metrics.macro, metrics.binary
    headlines = [(f"macro {METRICS[name].title} over {macro.findings} findings", macro[name]) for name in _HEADLINES]
    headlines.insert(1, ("AUROC normal/abnormal", binary["auroc"] if binary else UNDEFINED))
    return render(
        "chexvision.report",
        "report.html",
        found=found,
        main=found.systems[-1],
        conditions=conditions(metrics),
        headlines=headlines,
        sections=[("By finding", [metrics_table(metrics, found.systems[-1].name)]), *sections(found)],
        outputs=list(_outputs(outcome, metrics)),
        provenance=_provenance(found, metrics),
        bar=bar,
        number=number,
    )


def bar(value: object, bottom: float) -> Markup:
    """An estimate's interval on a scale from `bottom` to 1; nothing for anything else."""
    if not isinstance(value, Estimate) or value.value is None or value.interval is None:
        return Markup()
    low, high = value.interval
    return Markup(svg_text(interval_bar(low, value.value, high, bottom, 1.0)))


def _outputs(outcome: Outcome, metrics: SplitMetrics) -> Iterator[dict[str, Any]]:
    """The section of each output; without charts where the labels are all of one kind."""
    raw, calibrated = outcome.main.predictions, outcome.main.calibrated
    fitted = outcome.main.points.calibration is not None
    for i, name in enumerate(raw.names):
        of = metrics.findings.get(name, metrics.binary)
        if of is None:
            continue
        output = {"name": output_name(name), "metrics": of}
        if not (of.positives and of.negatives):
            yield output | {"charts": [], "mistakes": []}
            continue
        (scores, targets), (final, _) = known(raw, i), known(calibrated, i)
        charts = (
            roc_chart("ROC", scores, targets, of),
            pr_chart("Precision-recall", scores, targets, of),
            calibration_chart("Calibration", scores, final if fitted else None, targets),
            histogram_chart("Scores", final, targets, of.decision),
        )
        svgs = [Markup(svg_text(chart)) for chart in charts]
        yield output | {"charts": svgs, "mistakes": list(_mistakes(outcome, calibrated, i))}


def _mistakes(outcome: Outcome, calibrated: Predictions, i: int) -> Iterator[dict[str, Any]]:
    """The negatives with the highest probabilities and the positives with the lowest."""
    scores, targets = calibrated.probabilities[:, i], calibrated.targets[:, i]
    order = np.argsort(scores, kind="stable")
    negatives = [int(at) for at in order[::-1] if targets[at] == 0][:_MISTAKES]
    positives = [int(at) for at in order if targets[at] == 1][:_MISTAKES]
    for at in (*negatives, *positives):
        targets_of = zip(calibrated.names, calibrated.targets[at], strict=True)
        labels = [name for name, target in targets_of if target == 1 and name != ABNORMAL]
        yield {
            "thumbnail": _thumbnail(outcome.images[at]),
            "filename": str(calibrated.filenames[at]),
            "probability": float(scores[at]),
            "label": "yes" if targets[at] == 1 else "no",
            "findings": ", ".join(labels) or "no known finding",
        }


def _thumbnail(image: NDArray[np.uint8]) -> str:
    small = resize_area(np.ascontiguousarray(image), min(_THUMBNAIL, image.shape[0]))
    done, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 82])
    if not done:
        raise ValueError("OpenCV could not encode a thumbnail")
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def _provenance(found: Evaluation, metrics: SplitMetrics) -> Table:
    main = found.systems[-1]
    rows = (
        row("data", found.dataset),
        row("split", f"{found.split}, divided by {found.split_rule or 'the shards'}"),
        row("images", f"{metrics.images:,} of {metrics.patients:,} patients, names' sha256 {metrics.images_sha256}"),
        row("thresholds", metrics.thresholds),
        row("calibration", metrics.calibration),
        row("intervals", conditions(metrics).split("; ")[-1]),
        row("test-time augmentation", f"{main.tta}, views of each image: {main.views}"),
        row("precision", found.precision or "unknown"),
        row("made by", f"chexvision {found.version}"),
    )
    return Table("", (Column(""), Column("", prose=True)), rows)


def refuse_other_content(out: Path) -> None:
    """Raise UsageError unless `out` is new, empty, or an earlier evaluation's."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "report.html").is_file())):
        raise UsageError(f"--out {out} contains something other than an evaluation; name a new folder")
