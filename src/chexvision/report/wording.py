"""Numbers and sentences, the same in a terminal, a report and a model card."""

from __future__ import annotations

from statistics import median

from chexvision.labels import ABNORMAL
from chexvision.metrics.catalog import METRICS
from chexvision.metrics.records import MIN_CASES, Estimate, Gap, MacroMetrics, PriorShift


def number(
    of: Estimate | float | None,
    *,
    digits: int = 3,
    signed: bool = False,
    missing: str | None = None,
    interval: bool = True,
) -> str:
    """A count, or a measurement with its interval, such as ``0.841 (0.832–0.850)``.

    Args:
        of: an int gets thousands separators, anything else decimal places.
        digits: decimal places.
        signed: whether positive values get a plus sign.
        missing: why there is no value; it reads "too few" then, and a dash without a reason.
        interval: whether to show the interval of an estimate.
    """
    value, ends = (of.value, of.interval) if isinstance(of, Estimate) else (of, None)
    if value is None:
        return "–" if missing is None else "too few"
    if isinstance(value, int):
        return f"{value:,}"
    form = f"{'+' if signed else ''}.{digits}f"
    to = " to " if signed else "–"
    return f"{value:{form}}" + (f" ({ends[0]:{form}}{to}{ends[1]:{form}})" if ends and interval else "")


def output_name(name: str) -> str:
    """The name of an output in tables and charts."""
    return "normal/abnormal" if name == ABNORMAL else name


def p_text(value: float | None) -> str:
    """A p-value for a table."""
    return "–" if value is None else "<0.0001" if value < 0.0001 else f"{value:.4f}"


def no_mean(macro: MacroMetrics) -> str | None:
    """Why there is no mean, if there is none."""
    return None if macro.findings else "no finding has enough cases"


def about_means(macro: MacroMetrics) -> list[str]:
    """The findings that the means do not run over, and why."""
    notes = []
    if macro.left_out:
        few = f"too few cases (fewer than {MIN_CASES} patients with or without it)"
        notes.append(f"Left out of the mean, {few}: {', '.join(macro.left_out)}.")
    if macro.fewer:
        counts = ", ".join(
            f"{METRICS[name].title if name in METRICS else name} {n}" for name, n in macro.fewer.items()
        )
        notes.append(f"Means over the findings that have the metric: {counts} of {macro.findings}.")
    return notes


def gap_text(gap: Gap) -> str:
    """The gap between two groups with its interval and p-value."""
    return f"{gap.best} minus {gap.worst}: {number(gap.difference, signed=True)}, p = {p_text(gap.p_value)}" + (
        f", both adjusted for the {gap.pairs} pairs of groups" if gap.pairs > 1 else ""
    )


def prior_shift_text(shift: PriorShift) -> str:
    """How prevalences differ from those of the calibration, and what a correction for it changes."""
    ratios = sorted(of.ratio for name, of in shift.outputs.items() if name != ABNORMAL)
    return (
        f"Prevalence here is {ratios[0]:.2f} to {ratios[-1]:.2f} times that on {shift.calibrated_on}, where "
        f"probabilities were calibrated (median {median(ratios):.2f}, {shift.macro_findings} findings); with odds "
        "corrected for the prevalence among the labels here (Elkan 2001), mean ECE is "
        f"{shift.macro_ece[1]:.4f} instead of {shift.macro_ece[0]:.4f}, mean Brier score "
        f"{shift.macro_brier[1]:.4f} instead of {shift.macro_brier[0]:.4f}"
        + ("." if shift.helps else ": the correction does not help, images here differ in more than prevalence.")
    )
