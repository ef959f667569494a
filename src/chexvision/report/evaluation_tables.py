"""The tables of an evaluation, built from its records for consoles, HTML reports and model cards alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from chexvision.labels import ABNORMAL
from chexvision.metrics.catalog import METRICS, Metric
from chexvision.metrics.records import Attribute, Comparison, Difference, Estimates, PriorShift, SplitMetrics
from chexvision.report.datasets.dataset_tables import dataset_tables
from chexvision.report.table import Cell, Column, Row, Table, print_table, row
from chexvision.report.wording import about_means, gap_text, no_mean, output_name, p_text, prior_shift_text

if TYPE_CHECKING:
    from rich.console import Console

    from chexvision.artifact.metrics_file import Evaluation
    from chexvision.artifact.other_results import OtherSet
    from chexvision.metrics.literature import LiteratureComparison


def conditions(metrics: SplitMetrics) -> str:
    """The conditions of measurements, in a line."""
    parts = [
        f"{metrics.images:,} images of {metrics.patients:,} patients",
        f"thresholds {metrics.thresholds}",
        f"calibration {metrics.calibration}",
    ]
    if metrics.interval is not None:
        how = metrics.interval
        parts.append(f"{how.level:.0%} intervals, {how.method}, {how.resamples:,} resamples")
    return "; ".join(parts)


def metrics_table(metrics: SplitMetrics, name: str) -> Table:
    """All metrics of one set of images: a row per finding, preceded by their means and normal/abnormal."""
    macro = metrics.macro
    rows = [row(f"mean of {macro.findings}", "", "", *_metrics(macro, no_mean(macro)), emphasis=True)]
    outputs = {**({ABNORMAL: metrics.binary} if metrics.binary else {}), **metrics.findings}
    for output, of in outputs.items():
        threshold = of.decision.threshold if of.decision else None
        rows.append(row(output_name(output), of.positives, threshold, *_metrics(of, of.too_few)))
    ends = [of["auroc"].interval for of in metrics.findings.values()]
    bottom = min([0.5, *(end[0] - end[0] % 0.1 for end in ends if end)])
    columns = [Column(""), Column("positives", "n+"), Column("threshold", console="nothing")]
    columns += [_column(metric, bottom) for metric in METRICS.values()]
    return Table(f"{name}: {conditions(metrics)}", tuple(columns), tuple(rows), tuple(_notes(metrics)))


def _metrics(of: Estimates, too_few: str | None) -> list[Cell]:
    return [
        Cell(of[metric.name], metric.digits, missing=too_few if metric.name == "auroc" else None)
        for metric in METRICS.values()
    ]


def _column(metric: Metric, bar_from: float | None) -> Column:
    """A page has room for the intervals of metrics that need neither threshold nor calibration, a console for one."""
    if metric.name == "auroc":
        return Column(metric.title, metric.terminal, bar_from=bar_from)
    ranking = metric.higher_is_better and not metric.at_threshold
    return Column(metric.title, metric.terminal, ranking, console="values" if metric.terminal else "nothing")


def _notes(metrics: SplitMetrics) -> Iterator[str]:
    """What to know of the metrics of one set of images."""
    yield from about_means(metrics.macro)
    at = metrics.binary.decision if metrics.binary else None
    if at is not None:
        yield (
            f"Normal/abnormal at {at.threshold:.3f}: {at.true_positives:,} true and {at.false_positives:,} false "
            f"positives, {at.true_negatives:,} true and {at.false_negatives:,} false negatives."
        )
    if metrics.prior_shift is not None:
        yield prior_shift_text(metrics.prior_shift)
    unknown = sum(of.unknown for of in metrics.findings.values())
    if unknown:
        yield f"{unknown:,} unknown labels are masked."


def sections(found: Evaluation) -> Iterator[tuple[str, list[Table]]]:
    """Headings and tables of an evaluation, after those of its systems' metrics."""
    main = found.systems[-1]
    if main.metrics.prior_shift is not None:
        yield "Calibration under the prevalences here", [prior_shift_table(main.metrics.prior_shift)]
    if len(found.systems) > 1:
        yield "Models, views and ensembles", [systems_table(found)]
    if found.comparisons:
        yield "Comparisons", [comparison_table(comparison) for comparison in found.comparisons]
    if found.subgroups:
        yield "Subgroups", [subgroup_table(attribute) for attribute in found.subgroups]
    if found.datasets:
        yield "Datasets", dataset_tables(found)
    if found.expert is not None:
        yield found.expert.name, other_set_tables(found.expert)
    if found.published:
        yield "Comparison with the literature", [literature_table(found.published, main.metrics, main.name)]


def print_evaluation(console: Console, found: Evaluation) -> None:
    """The metrics of every system, then all that was compared, and notes."""
    for system in found.systems:
        print_table(console, metrics_table(system.metrics, system.name))
    for _, tables in sections(found):
        for table in tables:
            print_table(console, table)
    if found.synthetic:
        console.print("These images are synthetic: the results say nothing about patients.")
    for note in found.notes:
        console.print(f"note: {note}")


def prior_shift_table(shift: PriorShift) -> Table:
    """Prevalences of each output, and its calibration before and after the correction for their difference."""
    columns = (
        Column(""),
        Column(f"prevalence on {shift.calibrated_on}", "was"),
        Column("here"),
        Column("ratio"),
        Column("mean probability", console="nothing"),
        Column("implied", console="nothing"),
        Column("ECE"),
        Column("corrected", "corr."),
        Column("Brier score", "Brier"),
        Column("corrected", "corr."),
    )
    rows = []
    for name, of in shift.outputs.items():
        values = (of.calibrated_on, of.here, of.ratio, of.predicted, of.implied, *of.ece, *of.brier)
        digits = (4, 4, 2, 4, 4, 4, 4, 4, 4)
        rows.append(row(output_name(name), *(Cell(*pair) for pair in zip(values, digits, strict=True))))
    return Table(f"Prevalences on {shift.calibrated_on} and here", columns, tuple(rows))


def systems_table(found: Evaluation) -> Table:
    """The means of all systems."""
    columns = [Column(""), Column("weights", console="nothing"), Column("views")]
    columns += [Column("normal/abnormal", console="nothing"), *(_column(metric, None) for metric in METRICS.values())]
    rows = []
    for system in found.systems:
        macro, binary = system.metrics.macro, system.metrics.binary
        weights = ", ".join(f"{weight:.2f}" for weight in system.weights) if len(system.weights) > 1 else ""
        of_binary = Cell(binary["auroc"], missing=binary.too_few) if binary else Cell()
        rows.append(row(system.name, weights, system.views, of_binary, *_metrics(macro, no_mean(macro))))
    title = "AUROC of normal/abnormal, and means over the findings, all on the same images"
    return Table(title, tuple(columns), tuple(rows))


def comparison_table(comparison: Comparison) -> Table:
    """Paired differences of two systems."""
    mean, tests = comparison.macro, sum(of.p_delong is not None for of in comparison.outputs.values())
    rows = [
        _difference(f"mean of {comparison.macro_findings}", mean, (mean.p_delong, mean.p_patients), emphasis=True)
    ]
    for name, of in sorted(comparison.outputs.items(), key=lambda item: item[0] != ABNORMAL):
        rows.append(_difference(output_name(name), of, (of.p_delong_holm, of.p_patients_holm)))
    columns = (
        Column(""),
        Column("A"),
        Column("B"),
        Column("B − A"),
        Column("p, DeLong", console="nothing"),
        Column("adjusted", console="nothing"),
        Column("p, patients as clusters", console="nothing"),
        Column("adjusted", "p"),
    )
    return Table(
        f"A: {comparison.first}; B: {comparison.second}; AUROC on the same {comparison.images:,} images of "
        f"{comparison.patients:,} patients; intervals by {comparison.interval.method}",
        columns,
        tuple(rows),
        (
            f"p-values with patients as clusters; DeLong's test assumes independent images. Those of single outputs "
            f"are adjusted for {tests} tests by Holm's method.",
        ),
    )


def _difference(
    name: str, of: Difference, adjusted: tuple[float | None, float | None], emphasis: bool = False
) -> Row:
    auroc = [Cell(value, missing=of.too_few) for value in (of.first, of.second)]
    p_values = (of.p_delong, adjusted[0], of.p_patients, adjusted[1])
    return row(name, *auroc, Cell(of.difference, 4, signed=True), *map(p_text, p_values), emphasis=emphasis)


def subgroup_table(attribute: Attribute) -> Table:
    """The groups of one attribute and the gap between them."""
    columns = (
        Column(attribute.attribute, ""),
        Column("images"),
        Column("patients"),
        Column("macro AUROC"),
        Column("AUROC normal/abnormal", "AUROC"),
        Column("recall", console="values"),
        Column("specificity", "spec.", console="values"),
    )
    rows = [
        row(
            group.group,
            group.images,
            group.patients,
            Cell(group.macro_auroc, missing=group.note),
            Cell(group.binary_auroc, missing=group.binary_too_few),
            group.recall,
            group.specificity,
        )
        for group in attribute.groups
    ]
    notes = [f"{group.group}: {group.note}." for group in attribute.groups if group.note]
    if attribute.gap is not None:
        notes.append(f"Gap {gap_text(attribute.gap)}.")
    if attribute.unknown:
        notes.append(f"{attribute.attribute.capitalize()} unknown for {attribute.unknown:,} images.")
    title = (
        f"By {attribute.attribute}; macro AUROC over {len(attribute.macro_findings)} findings that every compared "
        "group has enough cases of, and normal/abnormal"
    )
    return Table(title, columns, tuple(rows), tuple(notes))


def other_set_tables(other: OtherSet) -> list[Table]:
    """A model against other labels, and how well the release's labels agree with them."""
    here = "release's labels, same images" if other.same_images else "own test images"
    columns = (
        Column(""),
        Column("positives", "n+"),
        Column("unknown", console="nothing"),
        Column("AUROC"),
        Column("here", console="values"),
        Column("difference"),
    )
    counts: dict[str, tuple[int | str, int | str]] = {}
    for name in other.gaps:
        of = other.metrics.binary if name == ABNORMAL else other.metrics.findings[name]
        counts[name] = (of.positives, of.unknown) if of else ("", "")
    rows = [
        row(
            name,
            *number_of,
            Cell(gap.there, missing=gap.too_few),
            Cell(gap.here, missing=gap.too_few),
            Cell(gap.difference, signed=True),
            emphasis=mean,
        )
        for name, number_of, gap, mean in (
            (f"mean of {len(other.macro.targets)}", ("", ""), other.macro, True),
            *((output_name(name), counts[name], gap, False) for name, gap in other.gaps.items()),
        )
    ]
    title = f"{other.name}: {other.metrics.images:,} images of {other.metrics.patients:,} patients; here: {here}"
    unknown = sum(of.unknown for of in other.metrics.findings.values())
    tables = [Table(title, columns, tuple(rows), (f"{unknown:,} unknown labels are masked.",) if unknown else ())]
    if other.agreement:
        agreement = [
            row(output_name(name), of.images, of.sensitivity, of.precision) for name, of in other.agreement.items()
        ]
        heads = ("", "images", "of these positives found", "of its own confirmed")
        tables.append(Table("The release's labels against these", tuple(map(Column, heads)), tuple(agreement)))
    return tables


def literature_table(
    published: Sequence[LiteratureComparison], metrics: SplitMetrics, name: str, image_size: int | None = None
) -> Table:
    """A system and published results, comparable ones first."""
    columns = (
        Column(""),
        Column("macro AUROC"),
        Column("split"),
        Column("image size"),
        *(Column(head, prose=True) for head in ("method", "comparable", "reference")),
    )
    own = (metrics.macro["auroc"], f"{metrics.images:,} images", _pixels(image_size))
    rows = [row(name, *own, "", "", "", emphasis=True)]
    for comparison in sorted(published, key=lambda comparison: not comparison.comparable):
        of, why = comparison.published, f"{'yes' if comparison.comparable else 'no'}, {comparison.why}"
        rows.append(row(of.who, of.auroc, of.split, _pixels(of.size), of.how, why, of.reference))
    return Table("Macro AUROC and published results", columns, tuple(rows))


def _pixels(size: int | str | None) -> str:
    return f"{size} px" if size else ""
