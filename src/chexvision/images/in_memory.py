"""Images in memory to 8-bit gray: numpy arrays, tensors, PIL images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chexvision.images.radiograph import Grey, check_size, scale_to_8_bit, to_grey, turn

if TYPE_CHECKING:
    from PIL.Image import Image

_EXPECTED = "give uint8, uint16 or float in [0, 1] of [H, W], [H, W, 1], or [H, W, 3 or 4]"
_ORIENTATION = 0x0112  # EXIF 2.3, 4.6.4
_AS_THEY_ARE = ("L", "RGB", "RGBA", "I;16", "I;16L", "I;16B", "F")


def gray_of_array(image: object) -> tuple[Grey, tuple[str, ...], tuple[str, ...]]:
    """An array or tensor as uint8[H, W], with what was done in words, and warnings.

    Raises:
        ValueError: it is not an image; the text says what it is and what is expected.
    """
    values = _as_numpy(image)
    shape = f"{values.dtype}{list(values.shape)}"
    if values.size == 0:
        raise ValueError(f"an array {shape} has no pixels; {_EXPECTED}")
    if values.ndim == 4 or (values.ndim == 3 and values.shape[2] not in (1, 3, 4)):
        raise ValueError(f"an array {shape} {_why_not(values)}; {_EXPECTED}")
    if values.ndim not in (2, 3):
        raise ValueError(f"an array {shape} is not an image; {_EXPECTED}")
    check_size(values.shape[1], values.shape[0], 1)
    pixels, notes = _as_8_bit(values, shape)
    if pixels.ndim == 3 and pixels.shape[2] > 1:
        pixels = pixels[:, :, 2::-1]  # of RGB
    grey, warnings = to_grey(np.ascontiguousarray(pixels))
    return grey, notes, warnings


def gray_of_pil(image: Image) -> tuple[Grey, tuple[str, ...], tuple[str, ...]]:
    """A PIL image of any mode as uint8[H, W], turned as its EXIF orientation says; see `gray_of_array`.

    Raises:
        ValueError: it cannot be read, or its mode is "F" or "I" with values that are not those of an image.
    """
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
        if image.mode in ("1", "LA", "La"):
            image = image.convert("L") if image.mode == "1" else image.getchannel(0)
        elif image.mode not in (*_AS_THEY_ARE, "I"):
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        values: NDArray[Any] = np.asarray(image)
    except (OSError, SyntaxError, ValueError):
        raise ValueError("the PIL image cannot be read: its file is damaged") from None
    if image.mode == "I":  # 32 bits, in which older versions hold 16-bit files
        if values.size and not 0 <= values.min() <= values.max() < 1 << 16:
            raise ValueError("a PIL image of mode I has values outside [0, 65535]; convert it to 8 or 16 bit")
        values = values.astype(np.uint16)
    pixels, notes, warnings = gray_of_array(values)
    if orientation in range(2, 9):
        return turn(pixels, orientation), (*notes, "turned as its EXIF orientation says"), warnings
    return pixels, notes, warnings


def _as_numpy(image: object) -> NDArray[Any]:
    if hasattr(image, "detach"):  # a tensor, without importing torch
        try:
            return np.asarray(image.detach().cpu().numpy())
        except TypeError:
            raise ValueError(f"a tensor of {getattr(image, 'dtype', '?')} has no array; {_EXPECTED}") from None
    if not hasattr(image, "__array__"):
        kind = type(image).__name__
        raise ValueError(f"{kind} is not an image; give a file's name or bytes, a PIL image, an array or a tensor")
    return np.asarray(image)


def _why_not(values: NDArray[Any]) -> str:
    if values.ndim == 4:
        return "is a batch; give its images one by one, or as a list"
    if values.shape[0] in (1, 3, 4):
        return "has its channels first; move them last: np.moveaxis(array, 0, 2), tensor.permute(1, 2, 0)"
    return f"has {values.shape[2]} channels"


def _as_8_bit(values: NDArray[Any], shape: str) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    if values.dtype == np.uint8:
        return values, ()
    if (values.dtype.kind, values.dtype.itemsize) == ("u", 2):  # of either byte order
        pixels, in_words = scale_to_8_bit(values.astype(np.uint16, copy=False), None)
        return pixels, (in_words,)
    if values.dtype.kind != "f":
        hint = "a mask has no gray values" if values.dtype == np.bool_ else "convert it: array.astype(np.uint8)"
        raise ValueError(f"an array {shape} has values of type {values.dtype}; {hint}; {_EXPECTED}")
    if not np.isfinite(values).all():
        raise ValueError(f"an array {shape} has values that are not finite numbers (NaN or infinite)")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        raise ValueError(
            f"an array {shape} has values from {low:.6g} to {high:.6g}; floating-point numbers are in [0, 1], "
            "so divide by the largest possible value; of normalized images give the original"
        )
    return np.floor(values.astype(np.float64) * 255 + 0.5).astype(np.uint8), ("values in [0, 1]",)
