"""What a set of shards holds, as SVG: drawn from its columns, never from its images.

A file stands alone: it follows the light or dark scheme of whoever shows it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import write_text_atomic
from chexvision.labels import LabelSpace
from chexvision.parallel import map_in_order
from chexvision.shards.columns import ShardPlace, label_texts
from chexvision.shards.schema import LABEL_COLUMNS, group_shards, patient_of

_COLUMNS = ("filename", *LABEL_COLUMNS, "patient_id", "age", "sex", "view")
_COLOURS = {"train": "#3b82f6", "validation": "#f59e0b", "test": "#10b981"}
_STYLE = (
    "svg{color-scheme:light dark}.page{fill:#fff}.ink{fill:#1f2328}.soft{fill:#667085}.grid{stroke:#e4e7ec}"
    ".cell{fill:#1f6feb}@media(prefers-color-scheme:dark){.page{fill:#15191f}.ink{fill:#e6e9ee}.soft{fill:#98a2b3}"
    ".grid{stroke:#333a45}.cell{fill:#6aa8ff}}"
)
_ROW, _BAR, _LEFT, _WIDTH = 12, 9, 150, 760
_AGE_BAND = 10
_MOST = 6  # labels an image; the last bar holds more as well
_PATIENT_STEPS = ((1, 1), (2, 2), (3, 5), (6, 10), (11, 20), (21, None))


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of one split, one value per image, None where unknown; labels are of `LabelSpace.named`."""

    labels: list[tuple[str, ...]]
    patients: list[int]
    ages: list[int | None]
    sexes: list[str | None]
    views: list[str | None]


def write_plots(place: ShardPlace, out: Path) -> list[Path]:
    """Draw all plots of a set of shards into the folder `out`, made if missing.

    Raises:
        UsageError: the shards are incomplete, or `out` is a file.
        ChexError: a shard cannot be read.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name a folder for the plots")
    splits = read_columns_of(place)
    drawn = {
        "prevalence": _prevalence(splits, place.label_space),
        "co-occurrence": _co_occurrence(splits, place.label_space.findings),
        "age": _ages(splits),
        "sex": _shares("Sex", splits, "sexes", ("F", "M")),
        "view": _shares("View", splits, "views", ("PA", "AP")),
        "labels-an-image": _label_counts(splits, place.label_space),
        "images-a-patient": _patient_counts(splits),
    }
    paths = []
    for name, svg in drawn.items():
        paths.append(out / f"{name}.svg")
        write_text_atomic(paths[-1], svg)
    return paths


def read_columns_of(place: ShardPlace) -> dict[str, Columns]:
    """The columns of every split, read from a folder or over the network.

    Raises:
        UsageError: a split lacks some of its shards.
        ChexError: a shard cannot be read, a label is not a finding, or a file name has no patient where the column is
            missing.
    """
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


def _prevalence(splits: dict[str, Columns], space: LabelSpace) -> str:
    rows = (*space.findings, space.normal)
    values = {}
    for split, columns in splits.items():
        counts = Counter(finding for labels in columns.labels for finding in labels)
        values[split] = [counts[name] / len(columns.labels) for name in rows]
    return _bars("Prevalence: share of a split's images", rows, values)


def _ages(splits: dict[str, Columns]) -> str:
    oldest = max((age for columns in splits.values() for age in columns.ages if age is not None), default=0)
    bands = range(0, oldest + 1, _AGE_BAND)
    values = {}
    for split, columns in splits.items():
        counts = Counter(None if age is None else age // _AGE_BAND for age in columns.ages)
        values[split] = [counts[i] / len(columns.ages) for i in (*range(len(bands)), None)]
    rows = (*(f"{low}–{low + _AGE_BAND - 1}" for low in bands), "unknown")
    return _bars("Age in years: share of a split's images", rows, values)


def _shares(title: str, splits: dict[str, Columns], field: str, known: tuple[str, ...]) -> str:
    values = {}
    for split, columns in splits.items():
        counts = Counter(value if value in known else "unknown" for value in getattr(columns, field))
        values[split] = [counts[name] / len(columns.labels) for name in (*known, "unknown")]
    return _bars(f"{title}: share of a split's images", (*known, "unknown"), values)


def _label_counts(splits: dict[str, Columns], space: LabelSpace) -> str:
    values = {}
    for split, columns in splits.items():
        counts = Counter(min(len({*labels} - {space.normal}), _MOST) for labels in columns.labels)
        values[split] = [counts[i] / len(columns.labels) for i in range(_MOST + 1)]
    return _bars("Findings an image: share of a split's images", (*map(str, range(_MOST)), f"{_MOST}+"), values)


def _patient_counts(splits: dict[str, Columns]) -> str:
    rows = [str(low) if low == high else f"{low}–{high}" if high else f"{low}+" for low, high in _PATIENT_STEPS]
    values = {}
    for split, columns in splits.items():
        images = Counter(columns.patients).values()
        values[split] = [
            sum(low <= count and (high is None or count <= high) for count in images) / len(images)
            for low, high in _PATIENT_STEPS
        ]
    return _bars("Images a patient: share of a split's patients", rows, values)


def _co_occurrence(splits: dict[str, Columns], findings: tuple[str, ...]) -> str:
    """Of the images that show the row's finding, the share that shows the column's too, over all splits."""
    found = np.array(
        [[name in labels for name in findings] for columns in splits.values() for labels in columns.labels], float
    )
    together = found.T @ found
    alone = np.diag(together)
    shares = together / np.maximum(alone, 1)[:, None]
    side, top = 36, 150
    parts = []
    for i, name in enumerate(findings):
        y = top + i * side
        parts.append(_text(f"{_spoken(name)} ({int(alone[i]):,})", _LEFT + 22, y + 22, "end"))
        x = _LEFT + 30 + i * side + 22
        parts.append(
            f"<text transform='translate({x} {top - 8}) rotate(-50)' font-size='12' class='ink'>"
            f"{escape(_spoken(name))}</text>"
        )
        for j, other in enumerate(findings):
            if i == j or not together[i, j]:
                continue
            share = shares[i, j]
            left = _LEFT + 30 + j * side
            title = f"{_spoken(other)} in {share:.1%} of {_spoken(name)} ({int(together[i, j]):,} images)"
            parts.append(
                f"<g><title>{escape(title)}</title><rect x='{left}' y='{y}' width='{side - 2}' height='{side - 2}' "
                f"rx='3' class='cell' fill-opacity='{0.06 + 0.7 * min(share / 0.6, 1):.3f}'/>"
                f"<text x='{left + side / 2 - 1}' y='{y + 21}' font-size='10.5' text-anchor='middle' "
                f"class='ink'>{100 * share:.0f}</text></g>"
            )
    title = "Co-occurrence: % of the row's images that show the column's finding"
    return _svg(title, _LEFT + 60 + len(findings) * side, top + len(findings) * side + 16, parts)


def _bars(title: str, rows: Sequence[str], values: dict[str, list[float]]) -> str:
    """A group of bars a row, one bar a split, with its share written beside it."""
    group = len(values) * _ROW + 8
    most = max((share for shares in values.values() for share in shares), default=0) or 1
    scale = (_WIDTH - _LEFT - 70) / most
    parts, x = [], float(_LEFT)
    for split in values:
        parts.append(f"<rect x='{x}' y='42' width='10' height='10' rx='2' fill='{_COLOURS[split]}'/>")
        parts.append(_text(split, x + 15, 51, "start"))
        x += 35 + 7 * len(split)
    for i, row in enumerate(rows):
        top = 68 + i * group
        parts.append(_text(_spoken(row), _LEFT - 10, top + group / 2, "end"))
        for j, (split, shares) in enumerate(values.items()):
            y, width = top + j * _ROW, shares[i] * scale
            parts.append(
                f"<rect x='{_LEFT}' y='{y}' width='{max(width, 0.5):.1f}' height='{_BAR}' rx='2' "
                f"fill='{_COLOURS[split]}'/>"
                f"<text x='{_LEFT + width + 6:.1f}' y='{y + 8}' font-size='10' class='soft'>"
                f"{_percent(shares[i])}</text>"
            )
    height = 68 + len(rows) * group + 6
    axis = f"<line x1='{_LEFT}' y1='62' x2='{_LEFT}' y2='{height - 8}' class='grid'/>"
    return _svg(title, _WIDTH, height, [axis, *parts])


def _svg(title: str, width: int, height: int, parts: Sequence[str]) -> str:
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' "
        f"role='img' aria-label='{escape(title, quote=True)}' font-family='system-ui, sans-serif'>"
        f"<style>{_STYLE}</style><rect width='100%' height='100%' class='page'/>"
        f"<text x='16' y='27' font-size='15' font-weight='600' class='ink'>{escape(title)}</text>"
        f"{''.join(parts)}</svg>\n"
    )


def _text(text: str, x: float, y: float, anchor: str) -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' font-size='12' text-anchor='{anchor}' class='ink'>{escape(text)}</text>"


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _percent(share: float) -> str:
    return "0" if share == 0 else f"{100 * share:.1f} %" if share >= 0.001 else f"{100 * share:.2f} %"
