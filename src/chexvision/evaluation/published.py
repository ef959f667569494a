"""Published figures to stand beside, and which of them were taken of the same images."""

from __future__ import annotations

from functools import cache

import yaml

from chexvision.evaluation.records import Record, SplitMetrics
from chexvision.labels import FINDINGS
from chexvision.layout import PACKAGE_DIR

TABLES = PACKAGE_DIR / "evaluation" / "tables"


class Published(Record):
    """One published macro AUROC over the 14 findings, with its conditions."""

    who: str
    auroc: float
    split: str
    size: str | None  # side in pixels
    how: str


class KnownSplit(Record):
    """A division that others used: how many test images, and the digest of their names where it is known."""

    images: int
    images_sha256: str | None = None


class Beside(Record):
    """A published figure beside one of ours: comparable only on the same images of the same split."""

    published: Published
    comparable: bool
    why: str


class _Table(Record):
    splits: dict[str, KnownSplit]
    results: tuple[Published, ...]


@cache
def published_table() -> _Table:
    """The figures that the project knows of."""
    return _Table.model_validate(yaml.safe_load((TABLES / "published.yaml").read_text(encoding="utf-8")))


def split_of(metrics: SplitMetrics, rule: str | None, split: str | None) -> str | None:
    """Which known split's test images `metrics` were taken of, or None.

    Args:
        metrics: what was measured.
        rule: how the dataset divides its patients, if its manifest says, such as "official".
        split: which part was measured.
    """
    for name, known in published_table().splits.items():
        if known.images != metrics.images:
            continue
        if known.images_sha256 == metrics.images_sha256 or (
            known.images_sha256 is None and rule == name and split == "test"
        ):
            return name
    return None


def beside(metrics: SplitMetrics, rule: str | None, split: str | None) -> tuple[Beside, ...]:
    """All published figures, each with whether it may be compared to `metrics`; arguments as of `split_of`."""
    table, ours = published_table(), split_of(metrics, rule, split)
    rows = []
    for published in table.results:
        known = table.splits.get(published.split)
        comparable = False
        if known is None:
            why = "its division was not published"
        elif published.split != ours:
            why = f"other images: {published.split} split, {known.images:,}; here {metrics.images:,}"
        elif metrics.macro.findings != len(FINDINGS):
            why = f"the mean here runs over {metrics.macro.findings} findings"
        else:
            comparable = True
            why = f"same split, same {metrics.images:,} images"
        rows.append(Beside(published=published, comparable=comparable, why=why))
    return tuple(rows)
