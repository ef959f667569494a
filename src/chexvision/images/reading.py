"""One radiograph from a file's bytes or from memory, with what was done to make it 8-bit gray."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from numpy.typing import NDArray

from chexvision.errors import UsageError
from chexvision.files.atomic import read_regular
from chexvision.images.dicom import Unsuitable, read_dicom
from chexvision.images.dicom_elements import is_dicom
from chexvision.images.image_heads import JPEG_SIGNATURE, PNG_SIGNATURE
from chexvision.images.in_memory import gray_of_array, gray_of_pil
from chexvision.images.radiograph import Grey, decode_image
from chexvision.images.sources import LARGEST

if TYPE_CHECKING:
    from PIL.Image import Image

_SMALLEST = 64  # pixels; findings cannot be seen in fewer
ANY_VIEW_HELPS = "; --any-view (any_view=True) accepts it"  # how a refusal ends that `any_view` lifts
_LONGEST = 2  # times the shorter side; radiographs of chests have up to 1.4

ImageLike: TypeAlias = "str | os.PathLike[str] | bytes | NDArray[Any] | Image"


@dataclass(frozen=True, slots=True)
class Radiograph:
    """One image as 8-bit gray.

    Args:
        pixels: uint8[H, W].
        notes: what was done to make it so, in words, for instance "inverted, as the file asks for"; nothing of a
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
        any_view: accept DICOM files that are not a frontal radiograph of a chest, with a warning: other views, body
            parts and modalities, colors, data for processing, and the first of several images.

    Raises:
        ValueError: they are none of these, damaged, or not a frontal radiograph of a chest. The text repeats no value
            of the file.
    """
    if data.startswith((PNG_SIGNATURE, JPEG_SIGNATURE)):
        return _radiograph(*decode_image(data))
    if is_dicom(data):
        return _radiograph(*read_dicom(data, any_view=any_view))
    raise ValueError("not a readable PNG, JPEG or DICOM file")


def as_radiograph(image: ImageLike, *, any_view: bool = False) -> Radiograph:
    """A file's name, a file's bytes, a PIL image or an array as a radiograph.

    Args:
        image: arrays and tensors are uint8 or uint16, or floating-point numbers in [0, 1], of [H, W], [H, W, 1], or
            [H, W, 3 or 4] in the order RGB or RGBA. 16-bit values have the range of the fewest bits of 8, 10, 12, 14
            and 16 that hold the largest.
        any_view: see `read_radiograph`.

    Raises:
        UsageError: it is not an image that can be read; the message says what it is instead.
    """
    place = f"{os.fspath(image)}: " if isinstance(image, str | os.PathLike) else ""
    try:
        if isinstance(image, str | os.PathLike):
            image = read_regular(Path(image), LARGEST)
        if isinstance(image, bytes | bytearray | memoryview):
            return read_radiograph(bytes(image), any_view=any_view)
        if hasattr(image, "getbands"):
            return _radiograph(*gray_of_pil(image))  # type: ignore[arg-type]
        return _radiograph(*gray_of_array(image))
    except Unsuitable as error:
        raise UsageError(f"{place}{error}{ANY_VIEW_HELPS}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{place}{getattr(error, 'strerror', None) or error}") from None


def _radiograph(pixels: Grey, notes: tuple[str, ...], warnings: tuple[str, ...]) -> Radiograph:
    """With warnings of its size, which models do not see."""
    height, width = pixels.shape
    if min(height, width) < _SMALLEST:
        warnings += (f"only {width}×{height} pixels",)
    if max(height, width) > _LONGEST * min(height, width):
        warnings += (f"{width}×{height} pixels: not the shape of a chest radiograph",)
    return Radiograph(pixels, notes, warnings)
