"""Charts of the contents of a set of shards, as SVG files. They need its columns only, not its images.

The files follow the light or dark color scheme of the viewer.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import write_text_atomic
from chexvision.labels import LabelSpace
from chexvision.parallel import map_in_order
from chexvision.report.svg import INK, MAIN, PAGE, drawing, element, line, rect, rotated, svg_text, text
from chexvision.shards.columns import ShardPlace, label_texts
from chexvision.shards.schema import LABEL_COLUMNS, group_shards, patient_of

_COLUMNS = ("filename", *LABEL_COLUMNS, "patient_id", "age", "sex", "view")
_COLORS = {"train": "#3b82f6", "validation": "#f59e0b", "test": "#10b981"}
_STYLE = (
    "svg{color-scheme:light dark}@media(prefers-color-scheme:dark)"
    "{svg{--page:#15191f;--ink:#e6e9ee;--soft:#98a2b3;--grid:#333a45;--main:#6aa8ff}}"
)
_ROW, _BAR, _LEFT, _WIDTH = 12, 9, 150, 760
_UNKNOWN = "unknown"
_AGE_BAND = 10
_LABEL_COUNTS = ("0", "1", "2", "3", "4", "5", "6+")
_IMAGE_COUNTS = {"1": 1, "2": 2, "3–5": 5, "6–10": 10, "11–20": 20, "21+": 10**9}  # with the largest count of each


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of one split, one value per image, None where unknown; labels are of `LabelSpace.named`."""

    labels: list[tuple[str, ...]]
    patients: list[int]
    ages: list[int | None]
    sexes: list[str | None]
    views: list[str | None]


Categories: TypeAlias = list[tuple[str, ...]]  # of each image, or of each patient


def write_plots(place: ShardPlace, out: Path) -> list[Path]:
    """Write all charts of a set of shards to the folder `out`, which is created if missing.

    Raises:
        UsageError: the shards are incomplete, or `out` is a file.
        ChexError: a shard cannot be read, or a label or file name is of other data.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name a folder for the plots")
    splits, space = _read_columns(place), place.label_space
    paths = []
    for name, svg in (("co-occurrence", _co_occurrence(splits, space.findings)), *_bar_charts(splits, space)):
        paths.append(out / f"{name}.svg")
        write_text_atomic(paths[-1], svg)
    return paths


def _read_columns(place: ShardPlace) -> dict[str, Columns]:
    """The columns of every split, read from a folder or over the network."""
    grouped = group_shards(place.sizes, place.name)
    paths = [path for shards in grouped.values() for path in shards]
    tables = dict(
        zip(paths, map_in_order(lambda path: place.read(path, _COLUMNS)[1], paths, place.readers), strict=True)
    )

    def column(shards: Sequence[str], name: str) -> list[Any]:
        values: list[Any] = []
        for table in (tables[path] for path in shards):
            there = name in table.column_names
            values += table.column(name).to_pylist() if there else [None] * table.num_rows
        return values

    splits, space = {}, place.label_space
    for split, shards in grouped.items():
        names = column(shards, "filename")
        try:
            splits[split] = Columns(
                labels=[space.named(space.values(*texts)) for path in shards for texts in label_texts(tables[path])],
                patients=[
                    patient_of(file) if known is None else known
                    for known, file in zip(column(shards, "patient_id"), names, strict=True)
                ],
                ages=column(shards, "age"),
                sexes=column(shards, "sex"),
                views=column(shards, "view"),
            )
        except ValueError as error:
            raise ChexError(f"{place.name}: {error}") from None
    return splits


def _bar_charts(splits: dict[str, Columns], space: LabelSpace) -> Iterator[tuple[str, str]]:
    """Name and SVG of each bar chart."""

    def bars(heading: str, rows: Sequence[str], categories: Callable[[Columns], Categories]) -> str:
        shares = {}
        for split, columns in splits.items():
            found = categories(columns)
            counts = Counter(category for several in found for category in several)
            shares[split] = [counts[row] / len(found) for row in rows]
        return _bars(heading, rows, shares)

    def of_images(title: str, rows: Sequence[str], categories: Callable[[Columns], Categories]) -> str:
        return bars(f"{title}: share of a split's images", rows, categories)

    oldest = max((age for columns in splits.values() for age in columns.ages if age is not None), default=0)
    ages = [*(_age_band(age) for age in range(0, oldest + 1, _AGE_BAND)), _UNKNOWN]
    findings = (*space.findings, space.normal)
    yield "prevalence", of_images("Prevalence", findings, lambda of: of.labels)
    yield "age", of_images("Age in years", ages, lambda of: [(_age_band(age),) for age in of.ages])
    yield "sex", of_images("Sex", ("F", "M", _UNKNOWN), lambda of: _either(("F", "M"), of.sexes))
    views = ("PA", "AP", *(("L",) if any("L" in columns.views for columns in splits.values()) else ()))
    yield "view", of_images("View", (*views, _UNKNOWN), lambda of: _either(views, of.views))
    yield (
        "labels-per-image",
        of_images(
            "Findings per image",
            _LABEL_COUNTS,
            lambda of: [
                (_LABEL_COUNTS[min(len({*some} - {space.normal}), len(_LABEL_COUNTS) - 1)],) for some in of.labels
            ],
        ),
    )
    yield (
        "images-per-patient",
        bars(
            "Images per patient: share of a split's patients",
            tuple(_IMAGE_COUNTS),
            lambda of: [
                (next(name for name, most in _IMAGE_COUNTS.items() if count <= most),)
                for count in Counter(of.patients).values()
            ],
        ),
    )


def _age_band(age: int | None) -> str:
    if age is None:
        return _UNKNOWN
    low = age - age % _AGE_BAND
    return f"{low}–{low + _AGE_BAND - 1}"


def _either(known: tuple[str, ...], values: list[str | None]) -> Categories:
    return [(value if value in known else _UNKNOWN,) for value in values]


def _co_occurrence(splits: dict[str, Columns], findings: tuple[str, ...]) -> str:
    """Of the images with the row's finding, the share that also has the column's, over all splits."""
    found = np.array(
        [[name in labels for name in findings] for columns in splits.values() for labels in columns.labels], float
    )
    together = found.T @ found
    counts = np.diag(together)
    shares = together / np.maximum(counts, 1)[:, None]
    side, top, left = 36, 150, _LEFT + 30
    parts = []
    for i, name in enumerate(findings):
        y = top + i * side
        parts.append(_text(f"{name} ({int(counts[i]):,})", _LEFT + 22, y + 22, "end"))
        parts.append(_text(name, 0, 0, transform=rotated(left + i * side + 22, top - 8, -50)))
        for j, other in enumerate(findings):
            if i == j or not together[i, j]:
                continue
            share, x = shares[i, j], left + j * side
            tip = f"{other} in {share:.1%} of {name} ({int(together[i, j]):,} images)"
            cell = rect(x, y, side - 2, side - 2, MAIN, rx=3, fill_opacity=0.06 + 0.7 * min(share / 0.6, 1))
            number = text(f"{100 * share:.0f}", x + side / 2 - 1, y + 21, "middle", 10.5, INK)
            parts.append(element("g", element("title", tip), cell, number))
    heading = "Co-occurrence: % of the row's images that have the column's finding"
    return _file(heading, left + 30 + len(findings) * side, top + len(findings) * side + 16, parts)


def _bars(heading: str, rows: Sequence[str], values: dict[str, list[float]]) -> str:
    """A group of bars per row, one bar per split, each with its share."""
    group = len(values) * _ROW + 8
    most = max((share for shares in values.values() for share in shares), default=0) or 1
    scale = (_WIDTH - _LEFT - 70) / most
    height = 68 + len(rows) * group + 6
    parts, x = [line(_LEFT, 62, _LEFT, height - 8)], _LEFT
    for split in values:
        parts += [rect(x, 42, 10, 10, _COLORS[split], rx=2), _text(split, x + 15, 51)]
        x += 35 + 7 * len(split)
    for i, row in enumerate(rows):
        top = 68 + i * group
        parts.append(_text(row, _LEFT - 10, top + group / 2, "end"))
        for j, (split, shares) in enumerate(values.items()):
            y, width = top + j * _ROW, shares[i] * scale
            parts.append(rect(_LEFT, y, max(width, 0.5), _BAR, _COLORS[split], rx=2))
            parts.append(text(_percent(shares[i]), _LEFT + width + 6, y + 8, size=10))
    return _file(heading, _WIDTH, height, parts)


def _file(heading: str, width: float, height: float, parts: Sequence[ET.Element]) -> str:
    background = rect(0, 0, width, height, PAGE)
    top = text(heading, 16, 27, size=15, color=INK, font_weight=600)
    style = element("style", _STYLE)
    return svg_text(drawing(width, height, [style, background, top, *parts], heading)) + "\n"


def _text(content: str, x: float, y: float, anchor: str = "start", **attributes: str | float) -> ET.Element:
    return text(content, x, y, anchor, 12, INK, **attributes)


def _percent(share: float) -> str:
    return "0" if share == 0 else f"{100 * share:.1f} %" if share >= 0.001 else f"{100 * share:.2f} %"
