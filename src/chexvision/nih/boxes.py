"""Boxes around findings: the release's `BBox_List_2017.csv`, and `boxes.csv` of synthetic shards."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from chexvision.errors import UsageError
from chexvision.files.tables import csv_rows
from chexvision.labels import NIH

RELEASE_SIDE = 1024  # the release's boxes are in pixels of its 1024² images
_ALIASES = {"Infiltrate": "Infiltration"}  # as the release's box list spells it
HEADS = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")
_SLACK = 1.0  # pixels that a manual box may extend beyond its image


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle as fractions of the image: left, top, right and bottom in [0, 1]."""

    left: float
    top: float
    right: float
    bottom: float

    def distance(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """The distance of points from the box, 0 inside; all as fractions of the image's side."""
        across = np.maximum(np.maximum(self.left - x, x - self.right), 0)
        down = np.maximum(np.maximum(self.top - y, y - self.bottom), 0)
        return np.asarray(np.hypot(across, down), np.float64)


Boxes: TypeAlias = dict[tuple[str, str], tuple[Box, ...]]  # by file name and finding


def read_boxes(path: Path, side: int) -> Boxes:
    """Read a box list in the release's layout, plain or gzip-compressed.

    Args:
        path: a CSV whose first six columns are those of `BBox_List_2017.csv`; x, y are the left upper corner.
        side: of the square images, in pixels.

    Raises:
        UsageError: the file cannot be read, has other columns, names an unknown finding, or a box is empty or
            extends beyond the image.
    """
    rows = csv_rows(path)
    heads = tuple(head.strip() for head in next(rows, ("", []))[1])
    if heads[:6] != HEADS:
        raise UsageError(f"{path} is not a box list: expected the columns {', '.join(HEADS)}, got {', '.join(heads)}")
    boxes: dict[tuple[str, str], list[Box]] = {}
    for where, cells in rows:
        finding = _ALIASES.get(cells[1].strip(), cells[1].strip()) if len(cells) >= 6 else ""
        if finding not in NIH.findings:
            raise UsageError(f"{where}: unknown finding {finding!r}; known are {', '.join(NIH.findings)}")
        boxes.setdefault((cells[0].strip(), finding), []).append(_box(cells[2:6], side, where))
    if not boxes:
        raise UsageError(f"{path} holds no box")
    return {key: tuple(of) for key, of in boxes.items()}


def box_mask(boxes: tuple[Box, ...], side: int, margin: float = 0.0) -> NDArray[np.bool_]:
    """bool[side, side]: the pixels whose center is in a box, or within `margin` (a fraction of the side) of one."""
    centers = (np.arange(side) + 0.5) / side
    x, y = centers[None, :], centers[:, None]
    mask = np.zeros((side, side), np.bool_)
    for box in boxes:
        mask |= box.distance(x, y) <= margin
    return mask


def _box(cells: list[str], side: int, where: str) -> Box:
    try:
        x, y, width, height = (float(cell) for cell in cells)
    except ValueError:
        raise UsageError(f"{where}: {', '.join(cells)} are not four numbers") from None
    if not all(math.isfinite(value) for value in (x, y, width, height)) or min(width, height) <= 0:
        raise UsageError(f"{where}: the box {', '.join(cells)} is empty")
    if min(x, y) < -_SLACK or max(x + width, y + height) > side + _SLACK:
        raise UsageError(
            f"{where}: the box {', '.join(cells)} extends beyond an image of {side}x{side} pixels; "
            "pass the side of the annotated images with --box-side"
        )
    return Box(*(min(max(value / side, 0.0), 1.0) for value in (x, y, x + width, y + height)))
