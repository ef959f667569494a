"""The tables of a report as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from chexvision.artifact.metrics_file import Evaluation, OtherSet
from chexvision.labels import ABNORMAL
from chexvision.metrics.catalog import METRICS
from chexvision.metrics.estimate import Estimate
from chexvision.metrics.records import (
    Attribute,
    Comparison,
    Difference,
    Estimates,
    FindingMetrics,
    PriorShift,
    SplitMetrics,
)
from chexvision.report.charts import title_of
from chexvision.report.console_tables import comparison_caption
from chexvision.report.svg import interval_bar
from chexvision.report.wording import figure, gap_text, no_mean, p_text, prior_shift_text


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str | None,
    *,
    text_from: int | None = None,
    means: int = 0,
    raw: frozenset[int] = frozenset(),
) -> str:
    """An HTML table.

    Args:
        heads: one a column.
        rows: cells as text.
        caption: above it.
        text_from: the first column that reads as text, not as a figure.
        means: how many rows at the top stand out.
        raw: columns whose cells are HTML already.
    """

    def kind(i: int) -> str:
        return " class='text'" if text_from is not None and i >= text_from else ""

    head = "".join(f"<th{kind(i)}>{escape(text)}</th>" for i, text in enumerate(heads))
    body = "".join(
        f"<tr{' class=mean' if number < means else ''}>"
        + "".join(f"<td{kind(i)}>{cell if i in raw else escape(cell)}</td>" for i, cell in enumerate(row))
        + "</tr>"
        for number, row in enumerate(rows)
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<div class='card'><table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def findings_table(metrics: SplitMetrics) -> str:
    """A row a finding, the means and normal/abnormal first."""
    macro = metrics.macro
    lows = [ends[0] for of in metrics.findings.values() if (ends := of["auroc"].interval)]
    bottom = min([0.5, *[low - low % 0.1 for low in lows]])
    rows = [[f"mean of {macro.findings}", "", "", *_estimates(macro, no_mean(macro), bottom)]]
    if metrics.binary is not None:
        rows.append(_finding(ABNORMAL, metrics.binary, bottom))
    rows += [_finding(name, of, bottom) for name, of in metrics.findings.items()]
    first, *others = (metric.title for metric in METRICS.values())
    heads = ["", "positives", "threshold", first, f"{bottom:.1f} to 1", *others]
    return table(heads, rows, None, means=1, raw=frozenset({4}))


def prior_shift_table(shift: PriorShift) -> str:
    """A row an output: prevalences, and calibration before and after the correction for their difference."""
    rows = [
        [
            title_of(name),
            f"{of.calibrated_on:.4f}",
            f"{of.here:.4f}",
            f"{of.ratio:.2f}",
            f"{of.predicted:.4f}",
            f"{of.implied:.4f}",
            *(f"{value:.4f}" for value in (*of.ece, *of.brier)),
        ]
        for name, of in shift.outputs.items()
    ]
    heads = ["", f"prevalence on {shift.calibrated_on}", "here", "ratio", "mean probability", "implied"]
    heads += ["ECE", "corrected", "Brier", "corrected"]
    return "<h2>Calibration under the prevalences here</h2>" + table(heads, rows, prior_shift_text(shift))


def systems_table(found: Evaluation) -> str:
    """All systems beside each other."""
    rows = []
    for system in found.systems:
        of, binary = system.metrics.macro, system.metrics.binary
        weights = ", ".join(f"{weight:.2f}" for weight in system.weights) if len(system.weights) > 1 else ""
        rows.append(
            [
                system.name,
                weights,
                str(system.views),
                figure(of["auroc"], too_few=no_mean(of)),
                figure(of["auprc"]),
                figure(binary["auroc"], too_few=binary.too_few) if binary else "–",
                figure(of["f1"].value),
                figure(of["brier"].value),
                figure(of["ece"].value),
            ]
        )
    heads = ["", "weights", "views", "macro AUROC", "macro AUPRC", "normal/abnormal", "F1", "Brier", "ECE"]
    return "<h2>Models, views and ensembles</h2>" + table(heads, rows, "All on the same images")


def comparison_table(comparison: Comparison) -> str:
    """Paired differences of two systems."""
    rows = [[f"mean of {comparison.macro_findings}", *_difference(comparison.macro)]]
    rows += [[title_of(name), *_difference(of)] for name, of in comparison.outputs.items()]
    tests = sum(of.p_delong is not None for of in comparison.outputs.values())
    caption = (
        f"{comparison_caption(comparison)}; p-values of DeLong's test, which assumes independent images, and with "
        f"patients as clusters; in brackets adjusted for the {tests} outputs by Holm's method"
    )
    heads = ["", "A", "B", "B − A", "p, DeLong (Holm)", "p, by patient (Holm)"]
    return table(heads, rows, caption, means=1)


def _difference(of: Difference) -> list[str]:
    """Both AUROCs, their difference, and the p-values with the adjusted ones in brackets."""
    if of.too_few is not None:
        return ["too few", "too few", "–", "–", "–"]
    tests = ((of.p_delong, of.p_delong_holm), (of.p_patients, of.p_patients_holm))
    return [
        figure(of.first),
        figure(of.second),
        figure(of.difference, digits=4, sign=True),
        *(p_text(raw) + (f" ({p_text(adjusted)})" if adjusted is not None else "") for raw, adjusted in tests),
    ]


def subgroup_table(attribute: Attribute) -> str:
    """Groups of one attribute and their gap."""
    rows = [
        [
            group.group,
            f"{group.images:,}",
            f"{group.patients:,}",
            figure(group.macro_auroc, too_few=group.note),
            figure(group.binary_auroc, too_few=group.binary_too_few),
            figure(group.recall),
            figure(group.specificity),
            group.note or "",
        ]
        for group in attribute.groups
    ]
    count = len(attribute.macro_findings)
    caption = f"By {attribute.attribute}; macro over {count} findings that every compared group has enough cases of"
    if attribute.gap is not None:
        caption += f". Gap {gap_text(attribute.gap)}"
    if attribute.unknown:
        caption += f". Unknown for {attribute.unknown:,} images"
    heads = [
        attribute.attribute,
        "images",
        "patients",
        "macro AUROC",
        "normal/abnormal AUROC",
        "recall",
        "specificity",
        "",
    ]
    return table(heads, rows, caption, text_from=7)


def other_set_table(other: OtherSet) -> str:
    """A model against other labels, and how the labels agree."""
    here = "the release's labels, same images" if other.same_images else "own images"
    rows = [
        [
            f"mean of {len(other.macro.targets)}",
            "",
            "",
            figure(other.macro.there, too_few=other.macro.too_few),
            figure(other.macro.here, too_few=other.macro.too_few),
            figure(other.macro.difference, sign=True),
        ]
    ]
    for name, gap in other.gaps.items():
        of = other.metrics.binary if name == ABNORMAL else other.metrics.findings[name]
        counts = [f"{of.positives:,}", f"{of.unknown:,}"] if of else ["", ""]
        rows.append(
            [
                title_of(name),
                *counts,
                figure(gap.there, too_few=gap.too_few),
                figure(gap.here, too_few=gap.too_few),
                figure(gap.difference, sign=True),
            ]
        )
    caption = f"{other.metrics.images:,} images of {other.metrics.patients:,} patients; unknown labels are masked"
    parts = [
        f"<h2>{escape(other.name)}</h2>",
        table(["", "positives", "unknown", "AUROC", f"AUROC, {here}", "difference"], rows, caption, means=1),
    ]
    if other.agreement:
        agreed = [
            [title_of(name), f"{of.images:,}", figure(of.sensitivity), figure(of.precision)]
            for name, of in other.agreement.items()
        ]
        heads = ["", "images", "positives it finds", "of its own confirmed"]
        parts.append(table(heads, agreed, "The release's own labels against these"))
    return "".join(parts)


def literature_table(found: Evaluation) -> str:
    """Published figures beside the last system's."""
    rows = [
        [
            row.published.who,
            f"{row.published.auroc:.3f}",
            row.published.split,
            row.published.size or "–",
            row.published.how,
            f"{'yes' if row.comparable else 'no'}: {row.why}",
            row.published.reference,
        ]
        for row in found.published
    ]
    ours = figure(found.systems[-1].metrics.macro_auroc)
    heads = ["", "macro AUROC", "split", "pixels", "how", "comparable", "reference"]
    return "<h2>Published figures</h2>" + table(heads, rows, f"LiteratureComparison {ours} here", text_from=2)


def _finding(name: str, of: FindingMetrics, bottom: float) -> list[str]:
    threshold = figure(of.decision.threshold if of.decision else None)
    return [title_of(name), f"{of.positives:,}", threshold, *_estimates(of, of.too_few, bottom)]


def _estimates(of: Estimates, too_few: str | None, bottom: float) -> list[str]:
    """The first metric with its interval, also as a bar, and the values of the others."""
    first, *others = METRICS.values()
    return [
        figure(of[first.name], digits=first.digits, too_few=too_few),
        _bar(of[first.name], bottom),
        *(figure(of[metric.name].value, digits=metric.digits) for metric in others),
    ]


def _bar(of: Estimate, bottom: float) -> str:
    return (
        interval_bar(of.interval[0], of.value, of.interval[1], bottom, 1.0)
        if of.value is not None and of.interval
        else ""
    )
