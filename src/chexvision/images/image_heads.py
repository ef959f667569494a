"""What a PNG or JPEG announces, read before a decoder sees it."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"

_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}  # the last: JPEG-LS
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_MOST_SCANS = 100  # progressive images have ten; each is a pass over the whole image
_PNG_CHANNELS = {0: 1, 2: 3, 3: 4, 4: 2, 6: 4}  # by color type, as decoded
_ORIENTATION = 0x0112  # EXIF 2.3, 4.6.4


@dataclass(frozen=True, slots=True)
class ImageHead:
    """What an image file announces.

    Args:
        width: pixels of a row.
        height: rows.
        channels: as decoded.
        bits: of a value in the file.
        significant_bits: of these, how many hold the values by the file itself (PNG's sBIT); None where not stated.
        orientation: EXIF's, 1 to 8; 1 is as stored.
        progressive: whether all of it is decoded at once, which takes three times the memory.
        data: the file without the parts that are not pixels, where a decoder would report about them.
    """

    width: int
    height: int
    channels: int
    bits: int
    data: bytes
    significant_bits: int | None = None
    orientation: int = 1
    progressive: bool = False


def read_png_head(data: bytes) -> ImageHead:
    """Read and check all chunks of a PNG: OpenCV silently fills the missing part of a truncated one with black.

    Raises:
        ValueError: a chunk up to IEND is not complete, or has a wrong checksum.
    """
    start, kind = len(PNG_SIGNATURE), b""
    parts, significant, orientation = [PNG_SIGNATURE], None, 1
    while kind != b"IEND":
        if start + 12 > len(data):
            raise ValueError("truncated PNG")
        length, kind = int.from_bytes(data[start : start + 4]), data[start + 4 : start + 8]
        stop = start + 8 + length
        if stop + 4 > len(data):
            raise ValueError("truncated PNG")
        if zlib.crc32(memoryview(data)[start + 4 : stop]) != int.from_bytes(data[stop : stop + 4]):
            raise ValueError("damaged PNG: a checksum is wrong")
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            parts.append(data[start : stop + 4])
        elif kind == b"sBIT" and length:
            significant = data[start + 8]
        elif kind == b"eXIf":
            orientation = _orientation(data[start + 8 : stop])
        start = stop + 4
    head = parts[1]
    if head[4:8] != b"IHDR" or len(head) != 25:
        raise ValueError("damaged PNG: it does not start with its header")
    width, height, bits, color = struct.unpack_from(">IIBB", head, 8)
    channels = _PNG_CHANNELS.get(color, 4)
    return ImageHead(width, height, channels, bits, b"".join(parts), significant, orientation)


def read_jpeg_head(data: bytes) -> ImageHead:
    """Read the segments of a JPEG, or of a JPEG-LS, before its first scan.

    Raises:
        ValueError: its end, or the frame header that contains its size, is missing.
    """
    if b"\xff\xd9" not in data[-64:]:
        raise ValueError("truncated JPEG")
    if data.count(b"\xff\xda") > _MOST_SCANS:
        raise ValueError(f"a JPEG of more than {_MOST_SCANS} scans")
    at, orientation = 2, 1
    while at + 10 <= len(data) and data[at] == 0xFF:
        kind, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if kind in _FRAMES:
            bits, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
            return ImageHead(width, height, channels, bits, data, None, orientation, kind in _PROGRESSIVE)
        if kind == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _orientation(data[at + 10 : at + 2 + length])
        # A marker may be padded with 0xFF; all before the frame header have a length.
        at += 1 if kind == 0xFF else 2 + length
    raise ValueError("damaged JPEG: it has no frame header")


def _orientation(tiff: bytes) -> int:
    """The orientation in an EXIF block; 1 where it has none or cannot be read."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, at)
        for number in range(min(entries, 1000)):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, at + 2 + 12 * number)
            if (tag, kind) == (_ORIENTATION, 3):
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
