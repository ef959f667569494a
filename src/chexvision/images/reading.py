"""One radiograph from a file's bytes or from memory, with what was done to make it 8-bit gray."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from chexvision.errors import UsageError
from chexvision.files.atomic import read_regular
from chexvision.images.radiograph import Grey, decode_grey
from chexvision.images.sources import LARGEST

if TYPE_CHECKING:
    from PIL.Image import Image

ImageLike: TypeAlias = "str | os.PathLike[str] | bytes | NDArray[Any] | Image"


@dataclass(frozen=True, slots=True)
class Radiograph:
    """One image as 8-bit gray.

    Args:
        pixels: uint8[H, W].
        notes: what was done to make it so, in words, for instance "12-bit, inverted (MONOCHROME1)"; nothing of a
            patient.
        warnings: why it may not be what the model was trained on, in words.
    """

    pixels: Grey
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read_radiograph(data: bytes, *, any_view: bool = False) -> Radiograph:
    """Decode the bytes of a PNG, JPEG or DICOM file.

    Args:
        data: the complete file.
        any_view: accept DICOM files that say they are lateral, not of a chest, or for processing, with a warning.

    Raises:
        ValueError: they are none of these, damaged, or not a frontal radiograph of a chest. The text names no value
            of the file.
    """
    del any_view
    return Radiograph(decode_grey(data))


def as_radiograph(image: ImageLike, *, any_view: bool = False) -> Radiograph:
    """A file's name, a file's bytes, a PIL image or an array as a radiograph.

    Args:
        image: arrays are uint8 or uint16 of [H, W] or [H, W, 3 or 4], or float of [H, W] in [0, 1].
        any_view: see `read_radiograph`.

    Raises:
        UsageError: it is not an image that can be read; the message says what it is instead.
    """
    if isinstance(image, str | os.PathLike):
        path = Path(image)
        try:
            return read_radiograph(read_regular(path, LARGEST), any_view=any_view)
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if isinstance(image, bytes):
        try:
            return read_radiograph(image, any_view=any_view)
        except ValueError as error:
            raise UsageError(str(error)) from None
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 2:
        raise UsageError(f"an array of {pixels.dtype}{list(pixels.shape)} is not an image; give uint8[H, W]")
    return Radiograph(np.asarray(pixels, np.uint8))
