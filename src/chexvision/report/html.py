"""The folder of an evaluation: metrics, predictions, operating points, and an HTML report of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from chexvision.artifact.metrics_file import Evaluation
from chexvision.errors import UsageError
from chexvision.evaluation.outcome import Outcome
from chexvision.files.atomic_folder import atomic_folder
from chexvision.hub.reference import RepoRef, parse_reference
from chexvision.inference.predictions_file import write_predictions
from chexvision.metrics.catalog import METRICS
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.records import UNDEFINED, Estimate, SplitMetrics
from chexvision.predict.operating_files import save_operating_points
from chexvision.report.charts import (
    calibration_chart,
    highest_share,
    histogram_chart,
    known,
    pr_chart,
    roc_chart,
)
from chexvision.report.evaluation_tables import conditions, metrics_table, sections
from chexvision.report.mistakes import DrawnMaps, data_uri, figures, worst_mistakes
from chexvision.report.svg import interval_bar, svg_text
from chexvision.report.table import Column, Table, row
from chexvision.report.wording import about_means, number, output_name
from chexvision.templating import render

_HEADLINES = ("auroc", "auprc", "f1")  # metrics whose means stand at the top


def write_report(outcome: Outcome, out: Path, made: str, maps: DrawnMaps | None = None) -> None:
    """Write ``metrics.json``, ``predictions.parquet``, ``thresholds.json``, ``calibration.json`` and ``report.html``.

    With several systems the predictions of each further one go to ``predictions/``; the folder's own are of the
    last, which combines all. Those for the second dataset go to ``datasets/2``, and so on. Equal arguments give equal
    bytes.

    Args:
        outcome: of `evaluate`.
        out: new or empty folder, or one of an earlier evaluation.
        made: when, as ISO 8601 in UTC.
        maps: of `chexvision.explain.mistake_maps.explain_mistakes`; the worst mistakes are shown without if None.

    Raises:
        UsageError: the folder holds something else.
    """
    refuse_other_content(out)
    with atomic_folder(out) as partial:
        (partial / "metrics.json").write_text(outcome.evaluation.model_dump_json(indent=1) + "\n", encoding="utf-8")
        write_predictions(partial / "predictions.parquet", outcome.main.predictions)
        for number, system in enumerate(outcome.systems[:-1], 1):
            write_predictions(partial / "predictions" / f"{number}.parquet", system.predictions)
        for number, predictions in enumerate(outcome.elsewhere, 2):
            _write_elsewhere(partial / "datasets" / str(number), predictions)
        save_operating_points(outcome.main.points, partial)
        (partial / "report.html").write_text(render_report(outcome, made, maps), encoding="utf-8")


def _write_elsewhere(folder: Path, predictions: Sequence[Predictions]) -> None:
    """The predictions of all systems for a further dataset, in files as those for the first."""
    write_predictions(folder / "predictions.parquet", predictions[-1])
    for i, of in enumerate(predictions[:-1], 1):
        write_predictions(folder / "predictions" / f"{i}.parquet", of)


def render_report(outcome: Outcome, made: str, maps: DrawnMaps | None = None) -> str:
    """The HTML page. It contains everything that it shows and refers to nothing outside; see `write_report`."""
    found, metrics = outcome.evaluation, outcome.evaluation.systems[-1].metrics
    macro, binary = metrics.macro, metrics.binary
    headlines = [(f"macro {METRICS[name].title} over {macro.findings} findings", macro[name]) for name in _HEADLINES]
    headlines.insert(1, ("AUROC normal/abnormal", binary["auroc"] if binary else UNDEFINED))
    reference = parse_reference(found.dataset)
    return render(
        "chexvision.report",
        "report.html",
        found=found,
        main=found.systems[-1],
        data=reference.repo_id if isinstance(reference, RepoRef) else reference.name,
        day=made[:10],
        conditions=conditions(metrics),
        headlines=headlines,
        cautions=list(_cautions(found, metrics)),
        sections=[("By finding", [metrics_table(metrics, found.systems[-1].name)]), *sections(found)],
        outputs=list(_outputs(outcome, metrics, maps)),
        method=maps.method if maps is not None else None,
        color_bar=data_uri(maps.bar) if maps is not None else None,
        provenance=_provenance(outcome, metrics, made),
        bar=bar,
        number=number,
    )


def _cautions(found: Evaluation, metrics: SplitMetrics) -> Iterator[str]:
    """What a reader must know before the numbers."""
    if found.synthetic:
        yield "These images are synthetic: the results say nothing about patients."
    elif any(dataset.synthetic for dataset in found.datasets):
        yield "Some datasets are of synthetic images: the results on them say nothing about patients."
    yield from found.notes
    yield from about_means(metrics.macro)
    unknown = {name: of.unknown for name, of in metrics.findings.items() if of.unknown}
    if unknown:
        counts = ", ".join(f"{name} {count:,}" for name, count in unknown.items())
        yield f"Images whose label is unknown are left out, by finding: {counts} of {metrics.images:,}."


def bar(value: object, bottom: float) -> Markup:
    """An estimate's interval on a scale from `bottom` to 1; nothing for anything else."""
    if not isinstance(value, Estimate) or value.value is None or value.interval is None:
        return Markup()
    low, high = value.interval
    return Markup(svg_text(interval_bar(low, value.value, high, bottom, 1.0)))


def _outputs(outcome: Outcome, metrics: SplitMetrics, maps: DrawnMaps | None) -> Iterator[dict[str, Any]]:
    """The section of each output; without charts where the labels are all of one kind."""
    raw, calibrated = outcome.main.predictions, outcome.main.calibrated
    fitted = outcome.main.points.calibration is not None
    worst = worst_mistakes(outcome)
    highest = highest_share(known(calibrated, i) for i in worst)
    for i, name in enumerate(raw.names):
        of = metrics.findings.get(name, metrics.binary)
        if of is None:
            continue
        output = {"name": output_name(name), "id": f"output-{i}", "metrics": of}
        if i not in worst:
            yield output | {"charts": [], "mistakes": []}
            continue
        (scores, targets), (final, _) = known(raw, i), known(calibrated, i)
        charts = (
            roc_chart("ROC", scores, targets, of),
            pr_chart("Precision-recall", scores, targets, of),
            calibration_chart("Calibration", scores, final if fitted else None, targets),
            histogram_chart("Scores", final, targets, of.decision, highest),
        )
        yield output | {
            "charts": [Markup(svg_text(chart)) for chart in charts],
            "mistakes": list(figures(outcome, i, worst[i], maps)),
        }


def _provenance(outcome: Outcome, metrics: SplitMetrics, made: str) -> Table:
    found, main = outcome.evaluation, outcome.evaluation.systems[-1]
    rows = (
        *(row("model", model) for model in outcome.models),
        row("data", found.dataset),
        row("data's identity", found.dataset_identity or "unknown"),
        row("split", f"{found.split}, divided by {found.split_rule or 'the shards'}"),
        row("images", f"{metrics.images:,} of {metrics.patients:,} patients, names' sha256 {metrics.images_sha256}"),
        row("thresholds", metrics.thresholds),
        row("calibration", metrics.calibration),
        row("intervals", conditions(metrics).split("; ")[-1]),
        row("test-time augmentation", f"{main.tta}, views of each image: {main.views}"),
        row("precision", found.precision or "unknown"),
        row("made", f"{made}, by chexvision {found.version}"),
    )
    return Table("", (Column(""), Column("", prose=True)), rows)


def refuse_other_content(out: Path) -> None:
    """Raise UsageError unless `out` is new, empty, or an earlier evaluation's."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "report.html").is_file())):
        raise UsageError(f"--out {out} contains something other than an evaluation; name a new folder")
