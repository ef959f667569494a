"""How well one heat map agrees with the boxes of its finding."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from chexvision.explain.chest import chest_region
from chexvision.explain.overlay import Heat
from chexvision.nih.boxes import Box, box_mask

GRID = 224  # maps are measured on a grid of this side
TOLERANCE = 15  # pixels of the grid that the maximum may be outside a box: Zhang et al., IJCV 2018
MEASURES = ("pointing", "iou", "energy", "outside")
_CENTER_SIGMA = 0.25  # of the side
_OUTSIDE = ~chest_region(GRID)


@dataclass(frozen=True, slots=True)
class MapAgreement:
    """A map's agreement with the boxes, all in [0, 1].

    Args:
        pointing: 1 if the maximum is in a box or within `TOLERANCE` of one.
        iou: of the boxes and the pixels above Otsu's threshold of the map.
        energy: share of the map's sum in the boxes.
        outside: share of the map's sum outside the chest region; NaN for a map without any.
    """

    pointing: float
    iou: float
    energy: float
    outside: float


@dataclass(frozen=True, slots=True)
class BoxMasks:
    """The boxes of one finding as bool[GRID, GRID]: within them, and within `TOLERANCE` of them."""

    inside: NDArray[np.bool_]
    near: NDArray[np.bool_]

    @classmethod
    def of(cls, boxes: tuple[Box, ...]) -> BoxMasks:
        """The masks of some boxes."""
        return cls(box_mask(boxes, GRID), box_mask(boxes, GRID, TOLERANCE / GRID))


def enlarge(heat: Heat) -> Heat:
    """Interpolate float[h, w] to float[GRID, GRID]."""
    return np.asarray(cv2.resize(heat, (GRID, GRID), interpolation=cv2.INTER_LINEAR), np.float32)


def agreement(heat: Heat, target: BoxMasks) -> MapAgreement:
    """Measure a map float[GRID, GRID], at least 0. A map of zeros misses."""
    total = float(heat.sum())
    if total <= 0:
        return MapAgreement(0.0, 0.0, 0.0, float("nan"))
    inside, near = target.inside, target.near
    chosen = otsu_mask(heat)
    return MapAgreement(
        pointing=float(near.flat[int(heat.argmax())]),
        iou=float((chosen & inside).sum() / (chosen | inside).sum()),
        energy=float(heat[inside].sum() / total),
        outside=float(heat[_OUTSIDE].sum() / total),
    )


def random_agreement(heat: Heat, target: BoxMasks) -> MapAgreement:
    """The expectation for the same map at a random position, wrapped at the edges: the exact mean over all shifts."""
    if heat.sum() <= 0:
        return MapAgreement(0.0, 0.0, 0.0, float("nan"))
    inside, near = target.inside, target.near
    chosen = otsu_mask(heat)
    spectra = np.fft.rfft2(inside), np.fft.rfft2(chosen).conj()
    shared = np.rint(np.fft.irfft2(spectra[0] * spectra[1], s=inside.shape))  # pixels in common for each shift
    iou = shared / (inside.sum() + chosen.sum() - shared)
    return MapAgreement(
        pointing=float(near.mean()),
        iou=float(iou.mean()),
        energy=float(inside.mean()),
        outside=float(_OUTSIDE.mean()),
    )


def center_map() -> Heat:
    """A map that always points to the center: a Gaussian of a quarter of the side."""
    centers = (np.arange(GRID) + 0.5) / GRID - 0.5
    row = np.exp(-0.5 * (centers / _CENTER_SIGMA) ** 2)
    return np.outer(row, row).astype(np.float32)


def otsu_mask(heat: Heat) -> NDArray[np.bool_]:
    """The pixels above Otsu's threshold, on 256 levels from 0 to the largest value, which is above 0."""
    levels = np.round(255 * (heat / heat.max())).astype(np.uint8)
    threshold, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return np.asarray(levels > threshold, np.bool_)
