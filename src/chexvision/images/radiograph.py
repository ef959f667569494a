"""Raw image bytes to one 8-bit grey radiograph: the only place where images are decoded.

Shards, the decode-once arrays and `predict` all go through here, so an image means the same everywhere.
"""

from __future__ import annotations

import zlib
from typing import Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Grey: TypeAlias = NDArray[np.uint8]  # [H, W]

# ImageNet's mean and deviation averaged over its three channels: radiographs have one.
PIXEL_MEAN = 0.449
PIXEL_STD = 0.226

# A detector has 20 million; a few kilobytes can encode an image that fills the memory.
MOST_PIXELS = 100_000_000

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_JPEG_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}

# OpenCV's own pool fights with ours: every caller here runs one image per thread.
cv2.setNumThreads(1)


def decode_grey(data: bytes) -> Grey:
    """Decode a PNG or JPEG into 8-bit grey uint8[H, W].

    Grey, RGB, RGBA (transparency is dropped) and 16-bit inputs are taken. 16-bit values are scaled by
    their full range (v / 257), so equal files give equal pixels whatever their content.

    Raises:
        ValueError: the bytes are neither a PNG nor a JPEG, are cut short, or stand for more than `MOST_PIXELS`.
    """
    if data.startswith(_PNG_SIGNATURE):
        size = _check_png(data)
    elif data.startswith(_JPEG_SIGNATURE):
        size = _check_jpeg(data)
    else:
        raise ValueError("not a readable PNG or JPEG")
    if size[0] * size[1] > MOST_PIXELS:
        raise ValueError(f"{size[0]}×{size[1]} pixels, more than {MOST_PIXELS:,}")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError(f"not a readable PNG or JPEG: {error.err}") from None
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


def _check_png(data: bytes) -> tuple[int, int]:
    """Width and height; raises ValueError unless every chunk up to IEND is complete and has its checksum.

    OpenCV silently fills the missing part of a truncated PNG with black, and prints about damage to stderr.
    """
    start, kind = len(_PNG_SIGNATURE), b""
    while kind != b"IEND":
        if start + 12 > len(data):
            raise ValueError("truncated PNG")
        length, kind = int.from_bytes(data[start : start + 4]), data[start + 4 : start + 8]
        stop = start + 8 + length
        if stop + 4 > len(data):
            raise ValueError("truncated PNG")
        if zlib.crc32(memoryview(data)[start + 4 : stop]) != int.from_bytes(data[stop : stop + 4]):
            raise ValueError("damaged PNG: a checksum is wrong")
        start = stop + 4
    return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])


def _check_jpeg(data: bytes) -> tuple[int, int]:
    """Width and height; raises ValueError where the end, or the frame header that contains them, is missing."""
    if b"\xff\xd9" not in data[-64:]:
        raise ValueError("truncated JPEG")
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            break
        kind = data[at + 1]
        if kind in _JPEG_FRAMES:
            return int.from_bytes(data[at + 7 : at + 9]), int.from_bytes(data[at + 5 : at + 7])
        # A marker may be padded with 0xFF; all before the frame header have a length.
        at += 1 if kind == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4])
    raise ValueError("damaged JPEG: it has no frame header")


def resize_area(grey: Grey, size: int) -> Grey:
    """Average uint8[H, W] down to uint8[size, size] by area; smaller inputs are interpolated up."""
    if grey.shape == (size, size):
        return grey
    shrink = grey.shape[0] >= size and grey.shape[1] >= size
    resized = cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.uint8)


def make_clahe(clip_limit: float, tiles: int) -> cv2.CLAHE:
    """Contrast-limited adaptive histogram equalisation on a `tiles`² grid; one object per thread."""
    return cv2.createCLAHE(clipLimit=clip_limit, tileGridSize=(tiles, tiles))


Encoding: TypeAlias = Literal["png", "jpeg"]

# Radiographs have few runs and no repeats, so matching strings buys nothing: run-length and Huffman coding
# of Paeth residuals gives 42 kB for a 320² image in 1.3 ms; deflate's level 9 takes 43.7 kB and 26 ms.
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # older OpenCV tries every filter when the level is given
    _PNG += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_PAETH]
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95]


def encode_grey(grey: Grey, encoding: Encoding) -> bytes:
    """Encode uint8[H, W] as a grey PNG (lossless) or a JPEG of quality 95."""
    suffix, options = (".png", _PNG) if encoding == "png" else (".jpg", _JPEG)
    done, data = cv2.imencode(suffix, grey, options)
    if not done:
        raise ValueError(f"OpenCV could not write a {encoding} of {grey.shape}")
    return data.tobytes()


def expected_bytes(images: int, size: int, encoding: Encoding) -> int:
    """About what `images` of `size`² take: 0.42 (png) or 0.25 bytes per pixel on the release, and some room."""
    return round(images * (size * size * (0.5 if encoding == "png" else 0.3) + 512))
