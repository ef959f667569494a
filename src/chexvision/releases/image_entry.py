"""What readers of releases share: the metadata of an image from its labels, and part of an index."""

from __future__ import annotations

import math
import sys
from collections.abc import Container, Sequence
from pathlib import PurePath

from chexvision.images.sources import Index
from chexvision.labels import UNCERTAIN, LabelSpace
from chexvision.nih.metadata import Entry


def entry_of(
    space: LabelSpace,
    values: Sequence[float],
    patient_id: int,
    *,
    study_id: int | None = None,
    age: int | None = None,
    sex: str | None = None,
    view: str | None = None,
    size: tuple[int | None, int | None] = (None, None),
) -> Entry:
    """The metadata of one image.

    Args:
        space: the label set.
        values: see `LabelSpace.values`.
        patient_id: a number, no name.
        study_id: the number of its study.
        age: years.
        sex: "M" or "F".
        view: "PA", "AP" or "L".
        size: width and height of the release's original in pixels.
    """
    by_finding = dict(zip(space.findings, values, strict=True))
    uncertain = [name for name, value in by_finding.items() if value == UNCERTAIN]
    unknown = [name for name, value in by_finding.items() if math.isnan(value)]
    return Entry(  # the same few texts in millions of images
        labels=sys.intern("|".join(space.named(values))),
        patient_id=patient_id,
        age=age,
        sex=sex,
        view=view,
        follow_up=None,
        original_width=size[0],
        original_height=size[1],
        uncertain=sys.intern("|".join(uncertain)) or None,
        unknown=sys.intern("|".join(unknown)) or None,
        study_id=study_id,
    )


def only(index: Index, names: Container[str]) -> Index:
    """The images of these names, in the same order."""
    return Index(
        tuple(found for found in index.images if found.name in names),
        tuple(found for found in index.duplicates if found.name in names),
    )


def without_folder(where: str) -> str:
    """A table and line without the table's folder, which manifests do not name."""
    return PurePath(where).name
