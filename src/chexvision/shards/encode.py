"""Grey pictures to the bytes that shards store."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import cv2

from chexvision.radiograph import Grey

Encoding: TypeAlias = Literal["png", "jpeg"]
ENCODINGS: tuple[str, ...] = get_args(Encoding)
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
    """About what `images` of `size`² take: 0.42 (png) or 0.25 bytes a pixel on the release, and some room."""
    return round(images * (size * size * (0.5 if encoding == "png" else 0.3) + 512))
