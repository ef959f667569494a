"""Learning curves of many runs in one chart. Needs no numpy."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass

from chexvision.report.svg import INK, drawing, element, line, rotated, text

COLORS = 8  # of the page's palette, --c0 to --c7
_DASHES = ("", "6 3", "2 3", "8 3 2 3")  # of the first 8 runs, the next 8, and so on
_WIDTH, _HEIGHT = 470, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 18, 30, 40
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_TICKS = 6  # at most
_MOST_POINTS = 300  # of a curve


@dataclass(frozen=True, slots=True)
class Series:
    """The curve of a run.

    Args:
        number: of the run, which gives its color and dashes.
        name: of the run.
        points: epoch and value, in order; values are finite.
    """

    number: int
    name: str
    points: Sequence[tuple[int, float]]


def overlay(heading: str, y_label: str, series: Sequence[Series]) -> ET.Element | None:
    """One chart of all curves, the first one on top; None where there is no point."""
    points = [point for of in series for point in of.points]
    if not points:
        return None
    last = max(epoch for epoch, _ in points)
    low, high, step = _axis([value for _, value in points])

    def at(epoch: float, value: float) -> tuple[float, float]:
        across = (epoch - 1) / (last - 1) if last > 1 else 0.5
        up = (value - low) / (high - low)
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * across, _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - up)

    parts = [text(heading, _LEFT, 16, size=13, color=INK, font_weight=600)]
    for i in range(round((high - low) / step) + 1):
        value = low + i * step
        y = at(1, value)[1]
        parts += [line(_LEFT, y, _WIDTH - _RIGHT, y), text(f"{value:.4g}", _LEFT - 6, y + 3.5, "end", 11)]
    for epoch in _epochs(last):
        parts.append(text(str(epoch), at(epoch, low)[0], _HEIGHT - _BOTTOM + 15, "middle", 11))
    parts.append(text("epoch", (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, "middle", 11))
    parts.append(text(y_label, 0, 0, "middle", 11, transform=rotated(11, (_TOP + _HEIGHT - _BOTTOM) / 2, -90)))
    parts += [_curve(of, [at(*point) for point in _thinned(of.points)]) for of in reversed(series)]
    return drawing(_WIDTH, _HEIGHT, parts, f"{heading}, {len(series)} {'run' if len(series) == 1 else 'runs'}")


def swatch(number: int) -> ET.Element:
    """A short line in the color and the dashes of a run."""
    mark = element("line", x1=1, y1=6, x2=25, y2=6, **_stroke(number))
    made = drawing(26, 12, [mark], "")
    del made.attrib["role"], made.attrib["aria-label"]
    made.set("aria-hidden", "true")
    return made


def _curve(of: Series, places: list[tuple[float, float]]) -> ET.Element:
    title = element("title", of.name)
    if len(places) == 1:
        ((x, y),) = places
        made = element("circle", title, cx=x, cy=y, r=3.5, fill=f"var(--c{of.number % COLORS}, #1f6feb)")
    else:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        made = element("polyline", title, points=path, fill="none", stroke_linejoin="round", **_stroke(of.number))
    made.set("class", "curve")
    made.set("data-run", str(of.number))
    return made


def _stroke(number: int) -> dict[str, str | float]:
    look: dict[str, str | float] = {"stroke": f"var(--c{number % COLORS}, #1f6feb)", "stroke_width": 2}
    dashes = _DASHES[number // COLORS % len(_DASHES)]
    return {**look, "stroke_dasharray": dashes} if dashes else look


def _axis(values: Sequence[float]) -> tuple[float, float, float]:
    """The lower and the upper end, and the distance of ticks."""
    low, high = min(values), max(values)
    step = next((step for step in _STEPS if (high - low) / step <= _TICKS - 1), (high - low) / 2)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    return low, high if high > low else low + step, step


def _epochs(last: int) -> list[int]:
    """The ticks of the epochs: the first, the last, and some between."""
    every = max(1, math.ceil(last / 8))
    ticks = [epoch for epoch in range(every, last + 1, every) if last - epoch >= every / 2 and epoch > 1]
    return sorted({1, *ticks, last})


def _thinned(points: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    every = math.ceil(len(points) / _MOST_POINTS)
    return (
        [point for i, point in enumerate(points) if i % every == 0 or i == len(points) - 1] if every > 1 else points
    )
