"""Published results, and which of them are of the same images as ours."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml

from chexvision.labels import NIH
from chexvision.metrics.records import Record, SplitMetrics

_TABLE = Path(__file__).with_name("literature.yaml")


class Published(Record):
    """One published macro AUROC over the 14 findings, with its conditions.

    Args:
        who: published it.
        auroc: the mean.
        split: name of the division, see `KnownSplit`; "random" for one that was not published.
        how: network, what it started from, and what was averaged.
        reference: where it was published.
        size: side of the images in pixels, where it is known.
        findings: AUROC of each of `NIH.findings`, where they were published.
    """

    who: str
    auroc: float
    split: str
    how: str
    reference: str
    size: str | None = None
    findings: tuple[float, ...] = ()


class KnownSplit(Record):
    """A division that others used: how many test images, and the digest of their names."""

    images: int
    images_sha256: str


class LiteratureComparison(Record):
    """A published result compared with one of ours: comparable only on the same images."""

    published: Published
    comparable: bool
    why: str


class _Table(Record):
    splits: dict[str, KnownSplit]
    results: tuple[Published, ...]


@cache
def literature_table() -> _Table:
    """The published results that the project knows of."""
    return _Table.model_validate(yaml.safe_load(_TABLE.read_text(encoding="utf-8")))


def split_of(metrics: SplitMetrics) -> str | None:
    """Which known split's test images `metrics` were taken of, or None."""
    splits = literature_table().splits.items()
    return next((name for name, known in splits if known.images_sha256 == metrics.images_sha256), None)


def compare_with_literature(metrics: SplitMetrics) -> tuple[LiteratureComparison, ...]:
    """All published results, each with whether it may be compared to `metrics`; none for findings of another set."""
    if not set(metrics.findings) <= set(NIH.findings):
        return ()
    table, ours = literature_table(), split_of(metrics)
    rows = []
    for published in table.results:
        known = table.splits.get(published.split)
        comparable = False
        if known is None:
            why = "its split was not published"
        elif published.split != ours:
            why = f"other images: {known.images:,}, {published.split} split; here {metrics.images:,}"
        elif metrics.macro.findings != len(NIH.findings):
            why = f"the mean here is over {metrics.macro.findings} findings"
        else:
            comparable = True
            why = f"same split, same {metrics.images:,} images"
        rows.append(LiteratureComparison(published=published, comparable=comparable, why=why))
    return tuple(rows)
