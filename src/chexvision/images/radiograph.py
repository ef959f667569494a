"""PNG and JPEG to one 8-bit grey radiograph: the only place where they are decoded.

Shards, the decode-once arrays and `predict` all go through here, so an image means the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from chexvision.images.image_heads import (
    JPEG_SIGNATURE,
    PNG_SIGNATURE,
    ImageHead,
    read_jpeg_head,
    read_png_head,
)

Grey: TypeAlias = NDArray[np.uint8]  # [H, W]

# ImageNet's mean and deviation averaged over its three channels: radiographs have one.
PIXEL_MEAN = 0.449
PIXEL_STD = 0.226

# A detector has 20 million; a few kilobytes can encode an image that fills the memory.
MOST_PIXELS = 100_000_000
_MOST_BYTES = 400_000_000  # while it is decoded

# OpenCV's own pool fights with ours: every caller here runs one image per thread.
cv2.setNumThreads(1)

# Channels of gray images differ by the rounding of JPEG's colors; a few pixels may be of a colored mark.
_COLORFUL, _COLORFUL_SHARE = 16, 0.01
COLOR_WARNING = "a color image, not a radiograph"

_DEPTHS = (8, 10, 12, 14, 16)  # bits of detectors and of what is made of their images


def decode_grey(data: bytes) -> Grey:
    """Decode a PNG or JPEG into 8-bit grey uint8[H, W]; see `decode_image`."""
    return decode_image(data)[0]


def decode_image(data: bytes) -> tuple[Grey, tuple[str, ...], tuple[str, ...]]:
    """Decode a PNG or JPEG into 8-bit grey uint8[H, W], with what was done for it in words, and warnings.

    Grey, RGB, CMYK, palettes and transparency (which is dropped) are taken, and EXIF's orientation is applied. Files
    of 16 bits often hold fewer: their range is that of PNG's sBIT, or of the fewest bits of 8, 10, 12, 14 and 16 that
    hold the largest value.

    Raises:
        ValueError: the bytes are neither a PNG nor a JPEG, are cut short, or stand for more than `MOST_PIXELS`.
    """
    head = _read_head(data)
    image, notes = _decode(head), []
    if image.dtype == np.uint16:
        image, range_in_words = scale_to_8_bit(image, head.significant_bits)
        notes.append(range_in_words)
    if head.orientation > 1:
        image = turn(image, head.orientation)
        notes.append("turned as its EXIF orientation says")
    grey, warnings = to_grey(image)
    return grey, tuple(notes), warnings


def decode_frame(data: bytes) -> NDArray[np.uint8]:
    """Decode a JPEG inside another file: uint8[H, W], or [H, W, 3] in the order RGB.

    Raises:
        ValueError: as `decode_image`.
    """
    image = _decode(_read_head(data))
    if image.dtype != np.uint8:
        raise ValueError("not a readable JPEG")
    return image.astype(np.uint8, copy=False) if image.ndim == 2 else image[:, :, 2::-1].astype(np.uint8, copy=False)


def _read_head(data: bytes) -> ImageHead:
    if data.startswith(PNG_SIGNATURE):
        head = read_png_head(data)
    elif data.startswith(JPEG_SIGNATURE):
        head = read_jpeg_head(data)
    else:
        raise ValueError("not a readable PNG or JPEG")
    check_size(head.width, head.height, head.channels * max(head.bits, 8) // 8 * (3 if head.progressive else 1))
    return head


def check_size(width: int, height: int, bytes_per_pixel: int) -> None:
    """Raise ValueError where an image is empty or would take too much memory."""
    if not width * height:
        raise ValueError("an image without pixels")
    most = min(MOST_PIXELS, _MOST_BYTES // max(bytes_per_pixel, 1))
    if width * height > most:
        raise ValueError(f"{width}×{height} pixels, more than {most:,}")


def _decode(head: ImageHead) -> NDArray[Any]:
    """uint8 or uint16 of [H, W], or of [H, W, 3 or 4] in the order BGR."""
    try:
        image = cv2.imdecode(np.frombuffer(head.data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise ValueError("not a readable PNG or JPEG")
    return image


def depth_of(largest: int) -> int:
    """The fewest bits of a detector's that hold a value."""
    return next(bits for bits in _DEPTHS if largest < 1 << bits)


def scale_to_8_bit(image: NDArray[np.integer], significant: int | None) -> tuple[NDArray[np.uint8], str]:
    """16-bit values of [H, W] or [H, W, C] scaled by their range, and the range in words.

    Args:
        image: uint16.
        significant: PNG's sBIT; such values are in the highest bits, but some writers leave them in the lowest.
    """
    largest = int(image[..., :3].max() if image.ndim == 3 else image.max())  # an alpha channel has a range of its own
    values = np.arange(1 << 16)
    if significant is not None and 1 <= significant < 16:
        bits = significant
        if largest >= 1 << bits:
            values >>= 16 - bits
        why = "as the file states"
    else:
        bits = depth_of(largest)
        why = "the fewest that hold its largest value" if bits < 16 else ""
    scaled = np.floor(np.minimum(values / ((1 << bits) - 1), 1) * 255 + 0.5).astype(np.uint8)
    return look_up(scaled, image), f"{bits}-bit values in 16 bits: {why}" if why else "16-bit values"


def look_up(table: NDArray[np.uint8], values: NDArray[np.integer]) -> NDArray[np.uint8]:
    """`table[values]`, some rows at a time: numpy makes indices of 64 bits first, 800 MB for 100 million pixels."""
    found = np.empty(values.shape, np.uint8)
    for rows in blocks(values):
        found[rows] = table[values[rows]]
    return found


def blocks(image: NDArray[Any]) -> Iterator[slice]:
    """Its rows in blocks of about a million values."""
    step = max(1, 2**20 * len(image) // image.size)
    return (slice(start, start + step) for start in range(0, len(image), step))


def turn(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """EXIF 2.3, 4.6.4: 2 to 4 are flips, 5 to 8 exchange rows and columns first."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    rows = orientation in (3, 4, 7, 8)
    columns = orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(image[:: -1 if rows else 1, :: -1 if columns else 1])


def to_grey(image: NDArray[np.uint8]) -> tuple[Grey, tuple[str, ...]]:
    """uint8[H, W] of an image with any channels in the order BGRA, and a warning if these differ: it is in color."""
    if image.ndim == 2:
        return image, ()
    if image.shape[2] <= 2:
        return np.ascontiguousarray(image[:, :, 0]), ()
    colorful = 0
    for rows in blocks(image):
        blue, green, red = cv2.split(image[rows])[:3]
        spread = cv2.subtract(cv2.max(cv2.max(blue, green), red), cv2.min(cv2.min(blue, green), red))
        colorful += int(np.count_nonzero(spread > _COLORFUL))
    grey = cv2.cvtColor(image, cv2.COLOR_BGRA2GRAY if image.shape[2] == 4 else cv2.COLOR_BGR2GRAY)
    return np.asarray(grey, np.uint8), ((COLOR_WARNING,) if colorful > _COLORFUL_SHARE * grey.size else ())


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


def most_bytes(size: int, encoding: Encoding) -> int:
    """The most that one image of `size`² takes.

    Deflate stores what it cannot compress, in blocks with a few bytes of overhead: as a PNG, noise takes 0.6 % more
    than its pixels. Noise as a JPEG takes 1.3 bytes per pixel; whoever writes one checks that it is not above this.
    """
    pixels = size * (size + 1)  # a row of a PNG begins with the number of its filter
    return pixels + pixels // 64 + 256 if encoding == "png" else pixels * 3 // 2 + 1024
