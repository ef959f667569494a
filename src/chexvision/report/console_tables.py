"""Figures as tables in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from chexvision.artifact.metrics_file import Evaluation, LabelGap, OtherSet
from chexvision.labels import ABNORMAL
from chexvision.metrics.catalog import METRICS
from chexvision.metrics.literature import LiteratureComparison
from chexvision.metrics.records import Attribute, Comparison, Difference, Estimates, FindingMetrics, SplitMetrics
from chexvision.report.wording import about_means, figure, gap_text, no_mean, p_text, prior_shift_text


def _table(title: str, heads: Sequence[str]) -> Table:
    """A table without frames: the first column names its rows and folds long names, the others hold figures."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
    for i, head in enumerate(heads):
        table.add_column(head, justify="right" if i else "left", no_wrap=bool(i), overflow="fold")
    return table


def print_evaluation(console: Console, found: Evaluation) -> None:
    """All of an evaluation: systems, comparisons, groups, other labels, published figures, notes."""
    for system in found.systems:
        print_metrics(console, system.metrics, system.name)
    for comparison in found.comparisons:
        print_comparison(console, comparison)
    print_subgroups(console, found.subgroups)
    for result in (found.expert, found.external):
        if result is not None:
            print_other_set(console, result)
    print_published(console, found.published, found.systems[-1].metrics.macro_auroc)
    if found.synthetic:
        console.print("These images are synthetic: the figures say nothing about patients.")
    for note in found.notes:
        console.print(f"note: {note}")


def print_metrics(console: Console, metrics: SplitMetrics, title: str) -> None:
    """One set of figures: a row a finding, the means first."""
    shown = {metric.name: metric.terminal for metric in METRICS.values() if metric.terminal}
    table = _table(f"{title}: {conditions(metrics)}", ("", "n+", *(shown.values())))
    macro = metrics.macro
    table.add_row(
        f"mean of {macro.findings}",
        "",
        *_cells(macro, no_mean(macro)),
        style="bold",
        end_section=metrics.binary is None,
    )
    if metrics.binary is not None:
        table.add_row(
            "normal/abnormal",
            f"{metrics.binary.positives:,}",
            *_cells(metrics.binary, metrics.binary.too_few),
            end_section=True,
        )
    for name, of in metrics.findings.items():
        table.add_row(name, f"{of.positives:,}", *_cells(of, of.too_few))
    console.print(table)
    for said in about_means(macro):
        console.print(said)
    if metrics.binary is not None and metrics.binary.decision is not None:
        at = metrics.binary.decision
        console.print(
            f"normal/abnormal at {at.threshold:.3f}: {at.true_positives:,} true and {at.false_positives:,} false "
            f"positives, {at.true_negatives:,} true and {at.false_negatives:,} false negatives"
        )
    if metrics.prior_shift is not None:
        console.print(prior_shift_text(metrics.prior_shift))
    _print_unknown(console, metrics)


def conditions(metrics: SplitMetrics) -> str:
    """Under which conditions the figures were taken, in a line."""
    parts = [
        f"{metrics.images:,} images of {metrics.patients:,} patients",
        f"thresholds {metrics.thresholds}",
        f"calibration {metrics.calibration}",
    ]
    if metrics.interval is not None:
        how = metrics.interval
        parts.append(f"{how.level:.0%} intervals, {how.method}, {how.resamples:,} resamples")
    return "; ".join(parts)


def print_published(console: Console, rows: Sequence[LiteratureComparison], ours: float | None) -> None:
    """Published figures beside ours."""
    if not rows:
        return
    console.print(f"Macro AUROC {figure(ours)} beside published figures", style="bold")
    for row in sorted(rows, key=lambda row: not row.comparable):
        of = row.published
        size = f", {of.size} px" if of.size else ""
        console.print(f"  {of.auroc:.3f} {of.who} ({of.how}{size})")
        console.print(f"        {'comparable' if row.comparable else 'not comparable'}: {row.why}; {of.reference}")


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Paired differences of two models; of the p-values, the adjusted ones by patient."""
    table = _table(
        f"{comparison_caption(comparison)}; intervals by {comparison.interval.method}; p-values with patients as "
        "clusters, for single outputs adjusted by Holm's method",
        ("", "A", "B", "B − A", "p"),
    )
    mean = comparison.macro
    table.add_row(f"mean of {comparison.macro_findings}", *_difference(mean, mean.p_patients), style="bold")
    for name, of in sorted(comparison.outputs.items(), key=lambda item: item[0] != ABNORMAL):
        cells = _difference(of, of.p_patients_holm)
        table.add_row("normal/abnormal" if name == ABNORMAL else name, *cells, end_section=name == ABNORMAL)
    console.print(table)


def comparison_caption(comparison: Comparison) -> str:
    """Which models are compared, and on what."""
    return (
        f"A: {comparison.first}; B: {comparison.second}; AUROC on the same {comparison.images:,} images of "
        f"{comparison.patients:,} patients"
    )


def _difference(of: Difference, p: float | None) -> list[str]:
    if of.too_few is not None:
        return ["too few", "too few", "–", "–"]
    difference = figure(of.difference, digits=4, sign=True)
    return [figure(of.first), figure(of.second), difference, p_text(p)]


def print_subgroups(console: Console, attributes: Sequence[Attribute]) -> None:
    """Groups of each attribute and the gap between them."""
    for attribute in attributes:
        count = len(attribute.macro_findings)
        table = _table(
            f"By {attribute.attribute}; macro AUROC over {count} findings, and normal/abnormal",
            ("", "images", "patients", "macro AUROC", "AUROC", "recall", "spec."),
        )
        for group in attribute.groups:
            table.add_row(
                group.group,
                f"{group.images:,}",
                f"{group.patients:,}",
                figure(group.macro_auroc, too_few=group.note),
                figure(group.binary_auroc, too_few=group.binary_too_few),
                figure(group.recall.value),
                figure(group.specificity.value),
            )
        console.print(table)
        for group in attribute.groups:
            if group.note:
                console.print(f"{group.group}: {group.note}")
        if attribute.gap is not None:
            console.print(f"gap {gap_text(attribute.gap)}")
        if attribute.unknown:
            console.print(f"{attribute.attribute} unknown for {attribute.unknown:,} images")


def print_other_set(console: Console, other: OtherSet) -> None:
    """A model against other labels; intervals of its figures here are left to the report."""
    here = "release's labels, same images" if other.same_images else "own test images"
    table = _table(
        f"{other.name}: {other.metrics.images:,} images of {other.metrics.patients:,} patients; here: {here}",
        ("", "n+", "AUROC", "here", "difference"),
    )
    rows: list[tuple[str, LabelGap, FindingMetrics | None]] = [
        (f"mean of {len(other.macro.targets)}", other.macro, None)
    ]
    for name, gap in other.gaps.items():
        rows.append((name, gap, other.metrics.binary if name == ABNORMAL else other.metrics.findings[name]))
    for name, gap, of in rows:
        table.add_row(
            "normal/abnormal" if name == ABNORMAL else name,
            f"{of.positives:,}" if of else "",
            figure(gap.there, too_few=gap.too_few),
            figure(gap.here.value, too_few=gap.too_few),
            figure(gap.difference, sign=True),
            style="bold" if of is None else None,
        )
    console.print(table)
    _print_unknown(console, other.metrics)
    for name, agreement in other.agreement.items():
        console.print(
            f"{name}: the release's label finds {figure(agreement.sensitivity)} of these positives, and "
            f"{figure(agreement.precision)} of its own are confirmed"
        )


def _print_unknown(console: Console, metrics: SplitMetrics) -> None:
    unknown = sum(of.unknown for of in metrics.findings.values())
    if unknown:
        console.print(f"{unknown:,} unknown labels are masked")


def _cells(of: Estimates, too_few: str | None) -> list[str]:
    """The metrics that a terminal has room for; the first with its interval."""
    first, *others = (metric for metric in METRICS.values() if metric.terminal)
    return [
        figure(of[first.name], digits=first.digits, too_few=too_few),
        *(figure(of[metric.name].value, digits=metric.digits) for metric in others),
    ]
