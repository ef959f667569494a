"""The variants of a study as a chart: macro AUROC with its interval, a row each. Needs no numpy."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Callable

from chexvision.evaluation.study_results import StudyResults, StudyVariant
from chexvision.report.svg import GRID, INK, MAIN, OTHER, SOFT, dot, drawing, element, line, rect, svg_text, text

_ROW, _TOP, _BOTTOM = 22, 40, 34
_SCALE, _RIGHT = 420, 20  # width of the axis, and of what is right of it
_CHARACTER = 5.6  # width of a letter of a name
_STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
_TICKS = 8  # at most


def study_chart(results: StudyResults) -> ET.Element | None:
    """The chart; None where no variant has a macro AUROC.

    The dashed line is at the base's value. Small dots are single seeds. Variants whose difference from the base has
    an adjusted p-value below 0.05 have another color.
    """
    low, high = _range(results)
    if not low < high:
        return None
    step = next((step for step in _STEPS if (high - low) / step <= _TICKS), _STEPS[-1])
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    left = 14 + _CHARACTER * max(len(of.name) for of in results.variants)
    width, height = left + _SCALE + _RIGHT, _TOP + _ROW * len(results.variants) + _BOTTOM
    floor = height - _BOTTOM

    def at(value: float) -> float:
        return left + _SCALE * (value - low) / (high - low)

    title = f"{results.study}: macro AUROC, {results.interval.level if results.interval else 0.95:.0%} intervals"
    parts = [
        rect(0, 0, width, height, "var(--card, #ffffff)"),
        text(title, 8, 18, size=11.5, color=INK, font_weight=600),
    ]
    for i in range(round((high - low) / step) + 1):
        x = at(low + i * step)
        parts += [line(x, _TOP, x, floor, GRID), text(f"{low + i * step:.3g}", x, floor + 14, "middle")]
    base = results.variants[0].macro_auroc.value
    if base is not None:
        parts.append(line(at(base), _TOP, at(base), floor, SOFT, dashed=True))
    for i, variant in enumerate(results.variants):
        y = _TOP + _ROW * (i + 0.5)
        parts.append(text(variant.name, left - 8, y + 3.5, "end", color=INK))
        parts += _marks(variant, y, at)
    return drawing(width, height, parts, title)


def chart_file(chart: ET.Element) -> str:
    """The text of an SVG file of its own."""
    return svg_text(chart) + "\n"


def is_different(variant: StudyVariant) -> bool:
    """Whether the variant differs from the base at the 5 % level, adjusted for all variants."""
    p = variant.difference.p_patients_holm if variant.difference is not None else None
    return p is not None and p < 0.05


def _marks(variant: StudyVariant, y: float, at: Callable[[float], float]) -> list[ET.Element]:
    value, interval = variant.macro_auroc.value, variant.macro_auroc.interval
    if value is None:
        return []
    color = OTHER if is_different(variant) else MAIN
    marks = []
    if interval is not None:
        x1, x2 = (at(end) for end in interval)
        marks.append(element("line", x1=x1, y1=y, x2=x2, y2=y, stroke=color, stroke_width=3, stroke_opacity=0.45))
    if len(variant.members) > 1:
        marks += [dot(at(seed), y, 1.6, SOFT) for seed in variant.seed_values]
    return [*marks, dot(at(value), y, 3.5, color)]


def _range(results: StudyResults) -> tuple[float, float]:
    """The lowest and the highest value that is drawn."""
    values = [value for variant in results.variants for value in variant.seed_values]
    values += [end for variant in results.variants for end in variant.macro_auroc.interval or ()]
    return (
        (min(values, default=0.0), max(values, default=0.0))
        if len(set(values)) != 1
        else (
            values[0] - 0.01,
            values[0] + 0.01,
        )
    )
