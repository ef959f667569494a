"""Raw image bytes to one 8-bit grey radiograph: the one place where pixels are first touched.

Shards, the decode-once arrays and `predict` all go through here, so a picture means the same everywhere.
"""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Grey: TypeAlias = NDArray[np.uint8]  # [H, W]

# OpenCV's own pool fights with ours: every caller here runs one image a thread.
cv2.setNumThreads(1)


def decode_grey(data: bytes) -> Grey:
    """Decode a PNG or JPEG into 8-bit grey uint8[H, W].

    Grey, RGB, RGBA (transparency is dropped) and 16-bit inputs are taken. 16-bit values are scaled by
    their full range (v / 257), so equal files give equal pixels whatever their content.

    Raises:
        ValueError: the bytes are no image that OpenCV reads, or are cut short.
    """
    if data.startswith(b"\x89PNG") and b"IEND" not in data[-16:]:
        # OpenCV fills what is missing of a cut PNG with black and says nothing.
        raise ValueError("truncated PNG")
    if data.startswith(b"\xff\xd8") and b"\xff\xd9" not in data[-64:]:
        raise ValueError("truncated JPEG")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if image is None:
        raise ValueError("not a readable PNG or JPEG")
    if image.dtype == np.uint16:
        image = np.round(image / 257.0).astype(np.uint8)
    elif image.dtype != np.uint8:
        raise ValueError(f"pixels of type {image.dtype}, expected 8 or 16 bit")
    if image.ndim == 3:
        channels = image.shape[2]
        if channels == 2:
            image = np.ascontiguousarray(image[:, :, 0])
        else:
            image = cv2.cvtColor(image, cv2.COLOR_BGRA2GRAY if channels == 4 else cv2.COLOR_BGR2GRAY)
    return np.asarray(image, dtype=np.uint8)


def resize_area(grey: Grey, size: int) -> Grey:
    """Average uint8[H, W] down to uint8[size, size] by area; smaller inputs are interpolated up."""
    if grey.shape == (size, size):
        return grey
    shrink = grey.shape[0] >= size and grey.shape[1] >= size
    resized = cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.uint8)


def make_clahe(clip_limit: float, tiles: int) -> cv2.CLAHE:
    """Contrast-limited adaptive histogram equalisation on a `tiles`² grid; one object a thread."""
    return cv2.createCLAHE(clipLimit=clip_limit, tileGridSize=(tiles, tiles))
