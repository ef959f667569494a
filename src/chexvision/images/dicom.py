"""A DICOM file to 8-bit gray. Nothing of a patient is read, returned or told."""

from __future__ import annotations

import cv2
import numpy as np

from chexvision.images.dicom_checks import Findings, check_elements
from chexvision.images.dicom_elements import read_elements
from chexvision.images.dicom_frame import FrameFormat, Samples, is_lossy_jpeg, stored_values
from chexvision.images.dicom_gray import to_gray
from chexvision.images.dicom_tags import (
    ASPECT,
    BITS_ALLOCATED,
    BITS_STORED,
    BLUE,
    COLUMNS,
    DAMAGED,
    FRAMES,
    GREEN,
    HIGH_BIT,
    PHOTOMETRIC,
    PLANAR,
    RED,
    ROWS,
    SAMPLES,
    SIGNED,
    Elements,
    name_of,
)
from chexvision.images.radiograph import Grey

MOST_PIXELS = 40_000_000  # detectors have 20 million
_MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
_RGB = ("RGB", "YBR_RCT", "YBR_ICT")  # the last two as JPEG 2000 decoders give them


class Unsuitable(ValueError):
    """A DICOM file that can be read, but is not a frontal radiograph of a chest by its own account."""


def read_dicom(data: bytes, *, any_view: bool = False) -> tuple[Grey, tuple[str, ...], tuple[str, ...]]:
    """Decode a DICOM file: uint8[H, W], what was done in words, and warnings.

    Args:
        data: the complete file.
        any_view: accept what is not a frontal radiograph of a chest, with a warning instead.

    Raises:
        Unsuitable: it is not a frontal radiograph of a chest.
        ValueError: it is damaged or not an image.
    """
    file = read_elements(data)
    elements = file.elements
    found = check_elements(elements)
    frame = _frame(elements, found)
    kind = elements.text(PHOTOMETRIC)
    if not kind:
        raise ValueError(f"{DAMAGED}: it has no element {name_of(PHOTOMETRIC)}")
    if kind not in _MONOCHROME:
        found.refusals.append("its pixels are in color: a screenshot, not a radiograph")
    if found.refusals and not any_view:
        raise Unsuitable("; ".join(found.refusals))
    stored = stored_values(file, frame)
    notes = ["DICOM"]
    if kind in _MONOCHROME:
        if stored.ndim == 3:
            raise ValueError("damaged DICOM file: a gray image of several colors")
        pixels, done = to_gray(stored, frame, elements)
        notes += done
    else:
        # OpenCV decodes lossy JPEG to RGB, whatever the file has.
        pixels = _gray_of_colors(stored, "RGB" if stored.ndim == 3 and is_lossy_jpeg(file) else kind, elements)
        notes.append("colors made gray")
    if not _are_square(elements):
        notes.append("pixels that are not square, shown as if they were")
    return pixels, tuple(notes), (*found.refusals, *found.warnings)


def _frame(elements: Elements, found: Findings) -> FrameFormat:
    allocated = elements.short(BITS_ALLOCATED)
    stored = elements.short(BITS_STORED, allocated)
    samples = elements.short(SAMPLES, 1)
    frames = elements.text(FRAMES) or "1"
    frame = FrameFormat(
        rows=elements.short(ROWS),
        columns=elements.short(COLUMNS),
        samples=samples,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=elements.short(HIGH_BIT, stored - 1),
        signed=elements.short(SIGNED, 0) == 1,
        frames=int(frames) if frames.isdecimal() and len(frames) < 8 else 0,
        planar=elements.short(PLANAR, 0) == 1,
    )
    if frame.rows * frame.columns > MOST_PIXELS:
        raise ValueError(f"{frame.columns}×{frame.rows} pixels, more than {MOST_PIXELS:,}")
    if not frame.rows * frame.columns:
        raise ValueError("an image without pixels")
    if allocated not in (8, 16) or not 2 <= stored <= allocated or not stored <= frame.high_bit + 1 <= allocated:
        raise ValueError("its pixels do not have 8 to 16 bits")
    if samples not in (1, 3) or (samples == 3 and (allocated, stored) != (8, 8)):
        raise ValueError("its pixels are neither gray nor colors of 8 bits")
    if frame.frames < 1:
        raise ValueError("damaged DICOM file: its number of images is not a number")
    if frame.frames > 1:
        found.refusals.append("it contains several images (multi-frame); only the first would be read")
    return frame


def _gray_of_colors(stored: Samples, kind: str, elements: Elements) -> Grey:
    if kind == "PALETTE COLOR" and stored.ndim == 2:
        return _gray_of_palette(stored, elements)
    if stored.ndim == 3 and kind in _RGB:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(stored), cv2.COLOR_RGB2GRAY), np.uint8)
    if stored.ndim == 3 and kind.startswith("YBR_FULL"):
        return np.ascontiguousarray(stored[:, :, 0]).astype(np.uint8, copy=False)  # luminance
    raise ValueError("its kind of colors is not one that is read here")


def _gray_of_palette(stored: Samples, elements: Elements) -> Grey:
    colors = []
    for descriptor, entries in (RED, GREEN, BLUE):
        count, first, bits = (*elements.shorts(descriptor), 0, 0, 0)[:3]
        values = np.array(elements.shorts(entries) if bits == 16 else (), np.int64)
        if len(values) < (count or 1 << 16) or not len(values):
            raise ValueError("damaged DICOM file: its palette is not complete")
        index = np.clip(np.arange(1 << 16) - first, 0, (count or 1 << 16) - 1)
        colors.append((values[index] >> 8).astype(np.uint8)[stored])
    return np.asarray(cv2.cvtColor(np.stack(colors, axis=2), cv2.COLOR_RGB2GRAY), np.uint8)


def _are_square(elements: Elements) -> bool:
    """Whether pixels are as high as wide, by PixelAspectRatio. Models see every image resized to a square anyway."""
    try:
        ratio = elements.decimals(ASPECT)
    except ValueError:
        return True
    return len(ratio) != 2 or ratio[0] == ratio[1]
