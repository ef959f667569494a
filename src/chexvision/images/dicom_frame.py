"""Pixel data of a DICOM file to stored values: uncompressed, RLE, and the JPEG families.

The decoders come with the extra ``dicom``; none is under the GPL. What a codestream announces is compared with the
file's own size before a decoder sees it: decoders reserve memory for what it announces.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from chexvision.images.dicom_elements import BIG, DEFLATED, EXPLICIT, IMPLICIT, DicomFile
from chexvision.images.image_heads import read_jpeg_head
from chexvision.images.jpeg_lossless import decode_lossless
from chexvision.images.radiograph import decode_frame

Samples: TypeAlias = NDArray[np.unsignedinteger[Any]]  # uint8 or uint16 of [H, W] or [H, W, 3]

EXTRA = "pip install 'chexvision[dicom]'"
_JPEG = "1.2.840.10008.1.2.4."
_UNCOMPRESSED = (IMPLICIT, EXPLICIT, BIG, DEFLATED)
_RLE = "1.2.840.10008.1.2.5"
_UNREAD = "its compression is not one that is read here; export it uncompressed"
_DAMAGED = "damaged DICOM file: its compressed pixels cannot be decoded"


@dataclass(frozen=True, slots=True)
class FrameFormat:
    """What the pixel data consist of.

    Args:
        rows: H.
        columns: W.
        samples: 1, or 3 for color.
        bits_allocated: 8 or 16.
        bits_stored: of these, those in use.
        high_bit: the place of the highest of them.
        signed: whether they are in two's complement.
        frames: images in the file, of which the first is read.
        planar: whether colors are stored one after the other.
    """

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    frames: int
    planar: bool

    @property
    def bytes(self) -> int:
        """Of one frame without compression."""
        return self.rows * self.columns * self.samples * self.bits_allocated // 8


def stored_values(file: DicomFile, frame: FrameFormat) -> Samples:
    """The first frame's stored values in [0, 2**bits_stored), signed ones as their two's complement.

    Raises:
        ValueError: the data are damaged, in an unknown encoding, or need a decoder that is not installed.
    """
    if file.syntax in _UNCOMPRESSED and file.pixels is not None:
        values = _plain(file.pixels, frame, big=file.syntax == BIG)
        if shift := frame.high_bit + 1 - frame.bits_stored:
            values = np.right_shift(values, values.dtype.type(shift))
    elif file.syntax in _UNCOMPRESSED or file.pixels is not None:
        raise ValueError(_DAMAGED)
    else:
        values = _decode(file.syntax, _first_frame(file.fragments, frame.frames), frame)
        if values.shape != (frame.rows, frame.columns, *((3,) if frame.samples == 3 else ())):
            raise ValueError(_DAMAGED)
    if frame.bits_stored < 8 * values.itemsize:
        values = np.bitwise_and(values, values.dtype.type((1 << frame.bits_stored) - 1))
    return values


def is_lossy_jpeg(file: DicomFile) -> bool:
    """Whether the pixels are a JPEG as everywhere, whose colors are decoded to RGB."""
    return file.syntax in (f"{_JPEG}50", f"{_JPEG}51")


def _plain(pixels: memoryview, frame: FrameFormat, *, big: bool) -> Samples:
    if len(pixels) < frame.bytes:
        raise ValueError("truncated DICOM file: it has fewer pixels than it announces")
    kind = np.dtype(np.uint8) if frame.bits_allocated == 8 else np.dtype(">u2" if big else "<u2")
    values = np.frombuffer(pixels[: frame.bytes], kind)
    return _shaped(values.astype(kind.newbyteorder("="), copy=False), frame, planar=frame.planar)


def _shaped(values: NDArray[Any], frame: FrameFormat, *, planar: bool) -> Samples:
    if frame.samples == 1:
        return values.reshape(frame.rows, frame.columns)
    if planar:
        return np.moveaxis(values.reshape(frame.samples, frame.rows, frame.columns), 0, 2)
    return values.reshape(frame.rows, frame.columns, frame.samples)


def _first_frame(fragments: Sequence[memoryview], frames: int) -> bytes:
    """The encoded first frame. Of several frames each must be one fragment."""
    if frames == 1:
        return b"".join(fragments)
    if len(fragments) != frames:
        raise ValueError("several compressed images in one file; export them one by one")
    return bytes(fragments[0])


def _decode(syntax: str, data: bytes, frame: FrameFormat) -> Samples:
    if syntax == _RLE:
        return _unpack_rle(data, frame)
    decoder = _DECODERS.get(syntax.removeprefix(_JPEG)) if syntax.startswith(_JPEG) else None
    if decoder is None:
        raise ValueError(_UNREAD)
    check, decode = decoder
    check(data, frame)
    try:
        return decode(data, frame)
    except ImportError:
        problem = f"its compression needs a decoder: {EXTRA}"
    except Exception:  # noqa: BLE001 - the decoders have classes of their own
        problem = _DAMAGED
    raise ValueError(problem)  # not from theirs, whose texts may contain bytes of the file


def _unpack_rle(data: bytes, frame: FrameFormat) -> Samples:
    """PS3.5, annex G: a segment per byte of a sample, the highest first, each packed as runs and literals."""
    planes = frame.samples * frame.bits_allocated // 8
    if len(data) < 64 or struct.unpack_from("<I", data)[0] != planes:
        raise ValueError(_DAMAGED)
    starts = (*struct.unpack_from(f"<{planes}I", data, 4), len(data))
    size = frame.rows * frame.columns
    segments = [_unpack(data[start:stop], size) for start, stop in itertools.pairwise(starts)]
    kind = np.uint8 if frame.bits_allocated == 8 else np.dtype(">u2")
    step = frame.bits_allocated // 8
    joined = [
        np.stack([np.frombuffer(part, np.uint8) for part in segments[at : at + step]], axis=1).reshape(-1).view(kind)
        for at in range(0, planes, step)
    ]
    return _shaped(np.concatenate(joined).astype(np.dtype(kind).newbyteorder("=")), frame, planar=True)


def _unpack(data: bytes, size: int) -> bytearray:
    found, at, end = bytearray(), 0, len(data) - 1
    while len(found) < size and at < end:
        count = data[at]
        if count < 128:
            found += data[at + 1 : at + 2 + count]
            at += 2 + count
        else:
            if count > 128:
                found += data[at + 1 : at + 2] * (257 - count)
            at += 2 if count > 128 else 1
    if len(found) < size:
        raise ValueError(_DAMAGED)
    return found[:size]


def _check_jpeg(data: bytes, frame: FrameFormat) -> None:
    """Whether a JPEG, JPEG Lossless or JPEG-LS codestream is of the announced size."""
    try:
        head = read_jpeg_head(data)
    except ValueError:
        raise ValueError(_DAMAGED) from None
    if (head.height, head.width, head.channels) != (frame.rows, frame.columns, frame.samples):
        raise ValueError(_DAMAGED)
    if head.bits > frame.bits_allocated:
        raise ValueError(_DAMAGED)


def _check_baseline(data: bytes, frame: FrameFormat) -> None:
    """Lossy JPEG: of 12 bits, rare, OpenCV does not decode it."""
    if frame.bits_stored > 8:
        raise ValueError(_UNREAD)
    _check_jpeg(data, frame)


def _check_jpeg2000(data: bytes, frame: FrameFormat) -> None:
    """The same of a JPEG 2000 codestream, by its SIZ segment (ISO 15444-1, A.5.1)."""
    if data[:4] != b"\xff\x4f\xff\x51" or len(data) < 45:
        raise ValueError(_DAMAGED)
    x1, y1, x0, y0, tile_x, tile_y, tile_x0, tile_y0 = struct.unpack_from(">8I", data, 8)
    components = struct.unpack_from(">H", data, 40)[0]
    bits = (data[42] & 0x7F) + 1
    tiles = math.ceil((x1 - tile_x0) / max(tile_x, 1)) * math.ceil((y1 - tile_y0) / max(tile_y, 1))
    if (y1 - y0, x1 - x0, components) != (frame.rows, frame.columns, frame.samples):
        raise ValueError(_DAMAGED)
    if max(x1, y1) > 2**17 or bits > frame.bits_allocated or not 1 <= tiles <= _MOST_TILES:
        raise ValueError(_DAMAGED)


_MOST_TILES = 4096  # OpenJPEG reserves some kilobytes for each


def _baseline(data: bytes, frame: FrameFormat) -> Samples:
    return decode_frame(data)


def _jpeg2000(data: bytes, frame: FrameFormat) -> Samples:
    import openjpeg

    return _unsigned(openjpeg.decode(data))  # type: ignore[attr-defined]


def _jpeg_ls(data: bytes, frame: FrameFormat) -> Samples:
    import jpeg_ls

    return _unsigned(jpeg_ls.decode(np.frombuffer(data, np.uint8)))


def _unsigned(values: NDArray[Any]) -> Samples:
    if values.dtype.itemsize > 2:
        raise ValueError(_DAMAGED)
    return values.view(np.dtype(np.uint8 if values.dtype.itemsize == 1 else np.uint16))


def _jpeg_lossless(data: bytes, frame: FrameFormat) -> Samples:
    return decode_lossless(data)


_DECODERS: dict[str, tuple[Callable[[bytes, FrameFormat], None], Callable[[bytes, FrameFormat], Samples]]] = {
    "50": (_check_baseline, _baseline),
    "51": (_check_baseline, _baseline),
    "57": (_check_jpeg, _jpeg_lossless),
    "70": (_check_jpeg, _jpeg_lossless),
    "80": (_check_jpeg, _jpeg_ls),
    "81": (_check_jpeg, _jpeg_ls),
    "90": (_check_jpeg2000, _jpeg2000),
    "91": (_check_jpeg2000, _jpeg2000),
}
