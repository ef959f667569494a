"""Stored values of a DICOM image to gray, as one table over all of them (PS3.3, sections C.7.6.3, C.11.1, C.11.2).

Stored values → modality LUT → VOI LUT or window → inverted if low values are to be bright → 0 to 255.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from chexvision.images.dicom_frame import FrameFormat, Samples
from chexvision.images.dicom_tags import (
    DAMAGED,
    INTERCEPT,
    LUT_DATA,
    LUT_DESCRIPTOR,
    MODALITY_LUT,
    PADDING,
    PADDING_LIMIT,
    PHOTOMETRIC,
    PRESENTATION_LUT,
    SLOPE,
    VOI_FUNCTION,
    VOI_LUT,
    WINDOW_CENTER,
    WINDOW_WIDTH,
    Elements,
)
from chexvision.images.radiograph import Grey, blocks, depth_of, look_up

Reals: TypeAlias = NDArray[np.float64]

# Of images without a window, in percent: 0.5 % of the pixels at each end are markers, collimators and dead pixels.
_LOWEST, _HIGHEST = 0.5, 99.5


@dataclass(frozen=True, slots=True)
class _Lut:
    """A lookup table of a file.

    Args:
        first: the input of its first entry.
        bits: of an entry, as it says.
        entries: int64[N].
    """

    first: int
    bits: int
    entries: NDArray[np.int64]

    def of(self, values: Reals) -> Reals:
        """The entries of `values`; those outside take the first or the last."""
        index = np.clip(np.round(values) - self.first, 0, len(self.entries) - 1).astype(np.int64)
        return self.entries[index].astype(np.float64)


def to_gray(stored: Samples, frame: FrameFormat, elements: Elements) -> tuple[Grey, list[str]]:
    """Stored values of [H, W] as gray uint8[H, W], and what was done in words.

    Raises:
        ValueError: the file's transformations are damaged.
    """
    codes = np.arange(1 << frame.bits_stored)
    stored_as = np.where(codes >> (frame.bits_stored - 1), codes - len(codes), codes) if frame.signed else codes
    notes = [f"{frame.bits_stored}-bit{' signed' if frame.signed else ''} values"]
    values = _modality(stored_as.astype(np.float64), elements, frame.signed, notes)
    padding = _padding(stored_as, elements, frame.signed)
    counts = sum(np.bincount(stored[rows].reshape(-1), minlength=len(codes)) for rows in blocks(stored)) * ~padding
    bright = _display(values, counts, elements, frame, notes)
    if elements.text(PHOTOMETRIC) == "MONOCHROME1" or elements.text(PRESENTATION_LUT) == "INVERSE":
        bright = 1 - bright
        notes.append("inverted, as the file asks for")
    table = np.floor(255 * bright + 0.5).astype(np.uint8)
    if padding.any() and bool((stored.reshape(-1).size - int(counts.sum())) > 0):
        table[padding] = 0
        notes.append("padding made black")
    return look_up(table, stored), notes


def _modality(values: Reals, elements: Elements, signed: bool, notes: list[str]) -> Reals:
    if MODALITY_LUT in elements.items:
        notes.append("modality LUT")
        return _lut(elements.items[MODALITY_LUT], signed).of(values)
    slope, intercept = _finite(elements, SLOPE, 1.0), _finite(elements, INTERCEPT, 0.0)
    if slope == 0:
        raise ValueError(f"{DAMAGED}: its rescale slope is 0")
    if (slope, intercept) != (1, 0):
        notes.append("rescaled by slope and intercept")
    return values * slope + intercept


def _display(
    values: Reals, counts: NDArray[np.int64], elements: Elements, frame: FrameFormat, notes: list[str]
) -> Reals:
    """Brightness in [0, 1] of each value, before any inversion."""
    if VOI_LUT in elements.items:
        lut = _lut(elements.items[VOI_LUT], bool((values < 0).any()))
        largest = (1 << lut.bits) - 1
        if int(lut.entries.max()) <= largest // 2:  # a wrong descriptor would leave the image dark
            largest = (1 << depth_of(int(lut.entries.max()))) - 1
        notes.append("the file's VOI LUT")
        return np.minimum(lut.of(values) / largest, 1)
    window = _window(elements, notes)
    if window is not None:
        return window(values)
    if frame.bits_stored == 8:
        notes.append("all 256 values")
        low, high = float(values.min()), float(values.max())
    else:
        notes.append(f"no window in the file: from percentile {_LOWEST} to {_HIGHEST} of its pixels")
        low, high = _percentiles(values, counts)
    return np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)


def _window(elements: Elements, notes: list[str]) -> Callable[[Reals], Reals] | None:
    """The first window; None where there is none that is valid."""
    try:
        centers, widths = elements.decimals(WINDOW_CENTER), elements.decimals(WINDOW_WIDTH)
    except ValueError:
        centers, widths = (), ()
    function = elements.text(VOI_FUNCTION) or "LINEAR"
    shapes: dict[str, Callable[[Reals, float, float], Reals]] = {
        "LINEAR": _linear,
        "LINEAR_EXACT": _linear_exact,
        "SIGMOID": _sigmoid,
    }
    if not centers or not widths or function not in shapes:
        return None
    center, width = centers[0], widths[0]
    if not (math.isfinite(center) and math.isfinite(width) and width >= (1 if function == "LINEAR" else 1e-6)):
        return None
    several = f", the first of {min(len(centers), len(widths))}" if min(len(centers), len(widths)) > 1 else ""
    notes.append(f"the file's window ({function.lower().replace('_', ' ')}{several})")
    return lambda values: shapes[function](values, center, width)


def _linear(values: Reals, center: float, width: float) -> Reals:
    if width == 1:
        return (values > center - 0.5).astype(np.float64)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def _linear_exact(values: Reals, center: float, width: float) -> Reals:
    return np.clip((values - center) / width + 0.5, 0, 1)


def _sigmoid(values: Reals, center: float, width: float) -> Reals:
    return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))  # e^710 is not a float


def _percentiles(values: Reals, counts: NDArray[np.int64]) -> tuple[float, float]:
    """The smallest values that these shares of the pixels do not exceed."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(counts[order])
    low, high = (int(np.searchsorted(reached, percent / 100 * reached[-1])) for percent in (_LOWEST, _HIGHEST))
    last = len(values) - 1
    return float(values[order[min(low, last)]]), float(values[order[min(high, last)]])


def _padding(stored_as: NDArray[np.int64], elements: Elements, signed: bool) -> NDArray[np.bool_]:
    """Which values are not pixels: PixelPaddingValue, up to PixelPaddingRangeLimit."""
    first = elements.shorts(PADDING)
    if not first:
        return np.zeros(len(stored_as), np.bool_)
    limits = [_signed(first[0], signed), _signed(elements.short(PADDING_LIMIT, first[0]), signed)]
    return (stored_as >= min(limits)) & (stored_as <= max(limits))


def _lut(item: Elements, signed: bool) -> _Lut:
    descriptor = item.shorts(LUT_DESCRIPTOR)
    if len(descriptor) != 3:
        raise ValueError(f"{DAMAGED}: a lookup table has no descriptor")
    count, bits = descriptor[0] or 1 << 16, descriptor[2]
    data = item.values.get(LUT_DATA, b"")
    if not 8 <= bits <= 16 or len(data) < count:
        raise ValueError(f"{DAMAGED}: a lookup table is not complete")
    if len(data) >= 2 * count:
        entries = np.array(item.shorts(LUT_DATA)[:count], np.int64)
    else:
        entries = np.frombuffer(data[:count], np.uint8).astype(np.int64)
    return _Lut(_signed(descriptor[1], signed), bits, entries)


def _signed(value: int, signed: bool) -> int:
    return value - (1 << 16) if signed and value >= 1 << 15 else value


def _finite(elements: Elements, tag: int, default: float) -> float:
    value = next(iter(elements.decimals(tag)), default)
    if not math.isfinite(value) or abs(value) > 1e12:
        raise ValueError(f"{DAMAGED}: its rescale values are not numbers")
    return value
