"""The tables of a report as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from chexvision.evaluation.external import OtherSet
from chexvision.evaluation.outcome import Evaluation
from chexvision.labels import ABNORMAL
from chexvision.metrics.compare import Comparison, Difference
from chexvision.metrics.records import CI, Attribute, FindingMetrics, PriorShift, SplitMetrics
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
    lows = [of.auroc_ci[0] for of in metrics.findings.values() if of.auroc_ci]
    bottom = min([0.5, *[low - low % 0.1 for low in lows]])
    bar = _bar(macro.auroc, macro.auroc_ci, bottom)
    means = [
        *([f"mean of {macro.findings}", "", figure(macro.auroc, macro.auroc_ci, too_few=no_mean(macro)), bar]),
        *[figure(value) for value in (macro.auprc, macro.f1, macro.precision, macro.recall, macro.specificity)],
        "",
        *[figure(value) for value in (macro.brier, macro.ece)],
    ]
    rows = [means]
    if metrics.binary is not None:
        rows.append(_finding(ABNORMAL, metrics.binary, bottom))
    rows += [_finding(name, of, bottom) for name, of in metrics.findings.items()]
    heads = ["", "positives", "AUROC", f"{bottom:.1f} to 1", "AUPRC", "F1", "precision", "recall", "specificity"]
    return table([*heads, "threshold", "Brier", "ECE"], rows, None, means=1, raw=frozenset({3}))


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
                figure(of.auroc, of.auroc_ci, too_few=no_mean(of)),
                figure(of.auprc, of.auprc_ci),
                figure(binary.auroc, binary.auroc_ci, too_few=binary.too_few) if binary else "–",
                figure(of.f1),
                figure(of.brier),
                figure(of.ece),
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
        figure(of.difference, of.difference_ci, digits=4, sign=True),
        *(p_text(raw) + (f" ({p_text(adjusted)})" if adjusted is not None else "") for raw, adjusted in tests),
    ]


def subgroup_table(attribute: Attribute) -> str:
    """Groups of one attribute and their gap."""
    rows = [
        [
            group.group,
            f"{group.images:,}",
            f"{group.patients:,}",
            figure(group.macro_auroc, group.macro_auroc_ci, too_few=group.note),
            figure(group.binary_auroc, group.binary_auroc_ci, too_few=group.binary_too_few),
            figure(group.recall, group.recall_ci),
            figure(group.specificity, group.specificity_ci),
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
            figure(other.macro.there, other.macro.there_ci, too_few=other.macro.too_few),
            figure(other.macro.here, other.macro.here_ci, too_few=other.macro.too_few),
            figure(other.macro.difference, other.macro.difference_ci, sign=True),
        ]
    ]
    for name, gap in other.gaps.items():
        of = other.metrics.binary if name == ABNORMAL else other.metrics.findings[name]
        counts = [f"{of.positives:,}", f"{of.unknown:,}"] if of else ["", ""]
        rows.append(
            [
                title_of(name),
                *counts,
                figure(gap.there, gap.there_ci, too_few=gap.too_few),
                figure(gap.here, gap.here_ci, too_few=gap.too_few),
                figure(gap.difference, gap.difference_ci, sign=True),
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
    at = of.decision
    calls = [at.f1, at.precision, at.recall, at.specificity] if at else [None] * 4
    return [
        title_of(name),
        f"{of.positives:,}",
        figure(of.auroc, of.auroc_ci, too_few=of.too_few),
        _bar(of.auroc, of.auroc_ci, bottom),
        figure(of.auprc),
        *[figure(value) for value in calls],
        figure(at.threshold if at else None),
        figure(of.brier),
        figure(of.ece),
    ]


def _bar(value: float | None, ci: CI, bottom: float) -> str:
    return interval_bar(ci[0], value, ci[1], bottom, 1.0) if value is not None and ci else ""
