"""Small charts as SVG text. Colours are CSS variables with a value of their own, so they also stand alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from chexvision.metrics.ranking import Floats

WIDTH, HEIGHT = 236, 206
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 10, 24, 34

INK = "var(--ink, #1f2328)"
SOFT = "var(--soft, #667085)"
GRID = "var(--grid, #e4e7ec)"
MAIN = "var(--main, #1f6feb)"
OTHER = "var(--other, #d97706)"
_FONT = "font-family='system-ui, sans-serif'"


@dataclass(frozen=True, slots=True)
class Line:
    """A curve: float[N] each way, its colour, and whether points are marked or the area below is filled."""

    x: Floats
    y: Floats
    colour: str = MAIN
    dots: bool = False
    filled: bool = False
    dashed: bool = False


def chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    x_max: float = 1.0,
    y_max: float = 1.0,
    diagonal: bool = False,
    marker: tuple[float, float] | None = None,
    rule: float | None = None,
    level: float | None = None,
) -> str:
    """One chart with both axes from 0.

    Args:
        title: above it.
        lines: what to draw, the last on top.
        x_label: below.
        y_label: beside.
        x_max: right end.
        y_max: upper end.
        diagonal: draw x = y.
        marker: a point to ring, such as where the threshold lies.
        rule: x of a vertical line.
        level: y of a horizontal dashed line.
    """
    inner_width, inner_height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + inner_width * min(max(x / x_max, 0), 1),
            _TOP + inner_height * (1 - min(max(y / y_max, 0), 1)),
        )

    parts = [f"<text x='{_LEFT}' y='14' font-size='11.5' font-weight='600' fill='{INK}'>{escape(title)}</text>"]
    for share in (0.0, 0.5, 1.0):
        x, y = at(share * x_max, 0)
        parts.append(_stroke(x, _TOP, x, y, GRID))
        parts.append(_text(_tick(share * x_max), x, y + 12, "middle"))
        x, y = at(0, share * y_max)
        parts.append(_stroke(x, y, WIDTH - _RIGHT, y, GRID))
        parts.append(_text(_tick(share * y_max), x - 5, y + 3, "end"))
    if diagonal:
        end = min(x_max, y_max)
        parts.append(_stroke(*at(0, 0), *at(end, end), SOFT, dashed=True))
    if level is not None:
        parts.append(_stroke(*at(0, level), *at(x_max, level), SOFT, dashed=True))
    for line in lines:
        parts.append(_line([at(float(x), float(y)) for x, y in zip(line.x, line.y, strict=True)], line, at(0, 0)[1]))
    if rule is not None and rule <= x_max:
        parts.append(_stroke(*at(rule, 0), *at(rule, y_max), INK))
    if marker is not None:
        x, y = at(*marker)
        parts.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.5' fill='none' stroke='{INK}' stroke-width='1.5'/>")
    parts.append(_text(x_label, _LEFT + inner_width / 2, HEIGHT - 6, "middle"))
    middle = _TOP + inner_height / 2
    parts.append(
        f"<text transform='translate(9 {middle:.0f}) rotate(-90)' font-size='9.5' text-anchor='middle' "
        f"fill='{SOFT}'>{escape(y_label)}</text>"
    )
    return _svg(WIDTH, HEIGHT, parts, title)


def interval_bar(low: float, value: float, high: float, bottom: float, top: float) -> str:
    """A dot with its interval on a scale from `bottom` to `top`."""
    width, height = 150, 16

    def at(x: float) -> float:
        return 4 + (width - 8) * min(max((x - bottom) / (top - bottom), 0), 1)

    parts = [
        _stroke(4, height / 2, width - 4, height / 2, GRID),
        f"<line x1='{at(low):.1f}' y1='8' x2='{at(high):.1f}' y2='8' stroke='{MAIN}' stroke-width='3' "
        "stroke-opacity='0.45' stroke-linecap='round'/>",
        f"<circle cx='{at(value):.1f}' cy='8' r='3.5' fill='{MAIN}'/>",
    ]
    return _svg(width, height, parts, f"{value:.3f}, {low:.3f} to {high:.3f}")


def sheet(charts: Sequence[str], columns: int) -> str:
    """Charts side by side as one file with a white background."""
    rows = -(-len(charts) // columns)
    parts = ["<rect width='100%' height='100%' fill='#ffffff'/>"]
    for i, one in enumerate(charts):
        x, y = (i % columns) * WIDTH, (i // columns) * HEIGHT
        parts.append(one.replace("<svg ", f"<svg x='{x}' y='{y}' width='{WIDTH}' height='{HEIGHT}' ", 1))
    return _svg(columns * WIDTH, rows * HEIGHT, parts, "charts") + "\n"


def thinned(x: Floats, y: Floats, points: int = 160) -> tuple[Floats, Floats]:
    """At most about `points` of a curve, evenly along its length, both ends among them."""
    if len(x) <= points:
        return x, y
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    index = np.unique(np.searchsorted(length, np.linspace(0, length[-1], points)).clip(0, len(x) - 1))
    return x[index], y[index]


def _line(points: list[tuple[float, float]], line: Line, floor: float) -> str:
    if not points:
        return ""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts = []
    if line.filled:
        corners = f"{points[0][0]:.1f},{floor:.1f} {path} {points[-1][0]:.1f},{floor:.1f}"
        parts.append(f"<polygon points='{corners}' fill='{line.colour}' fill-opacity='0.18'/>")
    dash = " stroke-dasharray='3 3'" if line.dashed else ""
    parts.append(
        f"<polyline points='{path}' fill='none' stroke='{line.colour}' stroke-width='1.8' "
        f"stroke-linejoin='round'{dash}/>"
    )
    if line.dots:
        parts += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='2.4' fill='{line.colour}'/>" for x, y in points]
    return "".join(parts)


def _svg(width: int, height: int, parts: Sequence[str], label: str) -> str:
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' role='img' "
        f"aria-label='{escape(label, quote=True)}' {_FONT}>{''.join(parts)}</svg>"
    )


def _stroke(x1: float, y1: float, x2: float, y2: float, colour: str, dashed: bool = False) -> str:
    dash = " stroke-dasharray='3 3'" if dashed else ""
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{colour}'{dash}/>"


def _text(text: str, x: float, y: float, anchor: str) -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' font-size='9.5' text-anchor='{anchor}' fill='{SOFT}'>{escape(text)}</text>"


def _tick(value: float) -> str:
    return f"{value:.2g}"
