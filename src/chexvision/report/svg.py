"""Small charts as SVG. Colors are CSS variables with a default, so that a chart also works as a file of its own."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from chexvision.metrics.ranking import Floats

WIDTH, HEIGHT = 236, 206
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 10, 24, 34
_FOOTER = 26  # below a chart that has counts
_ROOT_TICKS = (0.0, 0.05, 0.25, 0.5, 1.0)

INK = "var(--ink, #1f2328)"
SOFT = "var(--soft, #667085)"
GRID = "var(--grid, #e4e7ec)"
MAIN = "var(--main, #1f6feb)"
OTHER = "var(--other, #d97706)"
PAGE = "var(--page, #fff)"


def element(tag: str, *content: ET.Element | str, **attributes: str | float) -> ET.Element:
    """An SVG element.

    Args:
        tag: its name.
        content: elements inside of it, or its text.
        attributes: underscores in names become dashes; numbers are written with at most 2 decimal places.
    """
    made = ET.Element(tag)
    for name, value in attributes.items():
        made.set(name.replace("_", "-"), value if isinstance(value, str) else f"{round(value, 2):g}")
    for part in content:
        if isinstance(part, str):
            made.text = part
        else:
            made.append(part)
    return made


def drawing(width: float, height: float, parts: Iterable[ET.Element], label: str) -> ET.Element:
    """An ``<svg>`` of `parts`, which works as a file or within HTML or another SVG."""
    made = element("svg", *parts, xmlns="http://www.w3.org/2000/svg", width=width, height=height, role="img")
    made.attrib |= {
        "viewBox": f"0 0 {width:g} {height:g}",
        "aria-label": label,
        "font-family": "system-ui, sans-serif",
    }
    return made


def svg_text(root: ET.Element) -> str:
    """The text of an SVG file, or of inline SVG in HTML."""
    return ET.tostring(root, encoding="unicode")


def line(x1: float, y1: float, x2: float, y2: float, color: str = GRID, dashed: bool = False) -> ET.Element:
    """A straight line."""
    made = element("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=color)
    return _dashed(made) if dashed else made


def text(
    content: str,
    x: float,
    y: float,
    anchor: str = "start",
    size: float = 9.5,
    color: str = SOFT,
    **attributes: str | float,
) -> ET.Element:
    """One line of text."""
    return element("text", content, x=x, y=y, font_size=size, text_anchor=anchor, fill=color, **attributes)


def rotated(x: float, y: float, angle: float) -> str:
    """The ``transform`` that moves (0, 0) to (x, y), rotated by `angle` degrees."""
    return f"translate({x:g} {y:g}) rotate({angle:g})"


def rect(x: float, y: float, width: float, height: float, color: str, **attributes: str | float) -> ET.Element:
    """A filled rectangle."""
    return element("rect", x=x, y=y, width=width, height=height, fill=color, **attributes)


def dot(x: float, y: float, radius: float, color: str) -> ET.Element:
    """A filled circle."""
    return element("circle", cx=x, cy=y, r=radius, fill=color)


@dataclass(frozen=True, slots=True)
class Line:
    """A curve: float[N] for each axis, its color, and whether points are marked or the area below is filled."""

    x: Floats
    y: Floats
    color: str = MAIN
    dots: bool = False
    filled: bool = False
    dashed: bool = False


def chart(
    heading: str,
    curves: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    x_max: float = 1.0,
    y_max: float = 1.0,
    diagonal: bool = False,
    marker: tuple[float, float] | None = None,
    rule: float | None = None,
    level: float | None = None,
    root: Literal["none", "x", "both"] = "none",
    counts: tuple[str, Sequence[str]] | None = None,
) -> ET.Element:
    """One chart with both axes starting at 0.

    Args:
        heading: above it.
        curves: the last one is on top.
        x_label: below.
        y_label: left of it.
        x_max: right end.
        y_max: upper end.
        diagonal: show x = y.
        marker: a point to circle, such as the threshold.
        rule: x of a vertical line.
        level: y of a horizontal dashed line.
        root: axes on which distances are those of square roots, which leaves room for rare findings.
        counts: a heading and numbers in a row below.
    """
    inner_width, inner_height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        across, up = min(max(x / x_max, 0), 1), min(max(y / y_max, 0), 1)
        across, up = across**0.5 if root != "none" else across, up**0.5 if root == "both" else up
        return _LEFT + inner_width * across, _TOP + inner_height * (1 - up)

    parts = [text(heading, _LEFT, 14, size=11.5, color=INK, font_weight=600)]
    for share in _ROOT_TICKS if root != "none" else (0.0, 0.5, 1.0):
        x, y = at(share * x_max, 0)
        parts += [line(x, _TOP, x, y), text(f"{share * x_max:.2g}", x, y + 12, "middle")]
    for share in _ROOT_TICKS if root == "both" else (0.0, 0.5, 1.0):
        x, y = at(0, share * y_max)
        parts += [line(x, y, WIDTH - _RIGHT, y), text(f"{share * y_max:.2g}", x - 5, y + 3, "end")]
    if diagonal:
        end = min(x_max, y_max)
        parts.append(line(*at(0, 0), *at(end, end), SOFT, dashed=True))
    if level is not None:
        parts.append(line(*at(0, level), *at(x_max, level), SOFT, dashed=True))
    for curve in curves:
        points = [at(float(x), float(y)) for x, y in zip(curve.x, curve.y, strict=True)]
        parts += _curve(points, curve, at(0, 0)[1])
    if rule is not None and rule <= x_max:
        parts.append(line(*at(rule, 0), *at(rule, y_max), INK))
    if marker is not None:
        x, y = at(*marker)
        parts.append(element("circle", cx=x, cy=y, r=3.5, fill="none", stroke=INK, stroke_width=1.5))
    parts.append(text(x_label, _LEFT + inner_width / 2, HEIGHT - 6, "middle"))
    parts.append(text(y_label, 0, 0, "middle", transform=rotated(9, _TOP + inner_height / 2, -90)))
    if counts is None:
        return drawing(WIDTH, HEIGHT, parts, heading)
    title, numbers = counts
    parts.append(text(title, _LEFT, HEIGHT + 8, size=8.5))
    width = inner_width / len(numbers)
    for i, number in enumerate(numbers):
        parts.append(
            text(number, _LEFT + width * (i + 0.5), HEIGHT + 20, "middle", 8 if len(number) < 4 else 6.5, INK)
        )
    return drawing(WIDTH, HEIGHT + _FOOTER, parts, heading)


def interval_bar(low: float, value: float, high: float, bottom: float, top: float) -> ET.Element:
    """A dot with its interval on a scale from `bottom` to `top`."""
    width, height = 150, 16

    def at(x: float) -> float:
        return 4 + (width - 8) * min(max((x - bottom) / (top - bottom), 0), 1)

    interval = element("line", x1=at(low), y1=8, x2=at(high), y2=8, stroke=MAIN, stroke_width=3, stroke_opacity=0.45)
    interval.set("stroke-linecap", "round")
    parts = [line(4, 8, width - 4, 8), interval, dot(at(value), 8, 3.5, MAIN)]
    return drawing(width, height, parts, f"{value:.3f}, {low:.3f} to {high:.3f}")


def sheet(charts: Sequence[ET.Element], columns: int) -> str:
    """Charts, which this positions in a grid, as one file with a white background."""
    row = max(float(one.get("height", HEIGHT)) for one in charts)
    width, height = columns * WIDTH, -(-len(charts) // columns) * row
    for i, one in enumerate(charts):
        one.attrib |= {"x": f"{i % columns * WIDTH:g}", "y": f"{i // columns * row:g}"}
    return svg_text(drawing(width, height, [rect(0, 0, width, height, "#ffffff"), *charts], "charts")) + "\n"


def thinned(x: Floats, y: Floats, points: int = 160) -> tuple[Floats, Floats]:
    """At most about `points` of a curve, evenly along its length, both ends among them."""
    import numpy as np  # charts of few points do without

    if len(x) <= points:
        return x, y
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    index = np.unique(np.searchsorted(length, np.linspace(0, length[-1], points)).clip(0, len(x) - 1))
    return x[index], y[index]


def _curve(points: list[tuple[float, float]], curve: Line, floor: float) -> list[ET.Element]:
    if not points:
        return []
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts = []
    if curve.filled:
        corners = f"{points[0][0]:.1f},{floor:.1f} {path} {points[-1][0]:.1f},{floor:.1f}"
        parts.append(element("polygon", points=corners, fill=curve.color, fill_opacity=0.18))
    path_line = element(
        "polyline", points=path, fill="none", stroke=curve.color, stroke_width=1.8, stroke_linejoin="round"
    )
    parts.append(_dashed(path_line) if curve.dashed else path_line)
    return parts + [dot(x, y, 2.4, curve.color) for x, y in points if curve.dots]


def _dashed(of: ET.Element) -> ET.Element:
    of.set("stroke-dasharray", "3 3")
    return of
