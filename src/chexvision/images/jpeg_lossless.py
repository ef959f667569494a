"""JPEG Lossless (ISO 10918-1, annex H), in which many archives store radiographs.

A decoder of our own: OpenCV has none, GDCM's ends the process at a damaged file, others are under the GPL. Codes
follow each other bit by bit, but their lengths at all bits are looked up at once: one by one they are only added.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_DAMAGED = "damaged JPEG"
_END = re.compile(rb"\xff[^\x00]")  # in a scan 0xFF is followed by 0, else it is a marker
_BLOCK = 2**16  # bytes of a scan whose codes are looked up at once
_INVALID = 255  # the length of what is no code


@dataclass(slots=True)
class _Stream:
    rows: int = 0
    columns: int = 0
    bits: int = 0
    predictor: int = 0
    shift: int = 0  # the point transform: lowest bits that were left out
    codes: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)  # counts by length, values
    table: int = 0
    scan: bytes = b""


def decode_lossless(data: bytes) -> NDArray[np.uint16]:
    """Decode one gray image: uint16[H, W].

    Raises:
        ValueError: it is damaged, has colors or restart markers, or is another kind of JPEG.
    """
    try:
        stream = _read_segments(data)
    except (struct.error, IndexError):
        raise ValueError(_DAMAGED) from None
    if not stream.scan or not 2 <= stream.bits <= 16 or not 1 <= stream.predictor <= 7:
        raise ValueError(_DAMAGED)
    lengths, sizes = _lookup(*stream.codes.get(stream.table, (b"", b"")))
    differences = _differences(stream.scan, lengths, sizes, stream.rows * stream.columns)
    differences = differences.reshape(stream.rows, stream.columns)
    differences[0, 0] += 1 << (stream.bits - stream.shift - 1)
    return (_sum_up(differences, stream.predictor) << stream.shift).astype(np.uint16)


def _read_segments(data: bytes) -> _Stream:
    stream, at = _Stream(), 2
    while True:
        if data[at] != 0xFF:
            raise ValueError(_DAMAGED)
        kind = data[at + 1]
        if kind == 0xFF:  # padding
            at += 1
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        part = data[at + 4 : at + 2 + length]
        at += 2 + length
        if kind == 0xC3:
            stream.bits, stream.rows, stream.columns, components = struct.unpack_from(">BHHB", part)
            if components != 1 or stream.rows * stream.columns == 0:
                raise ValueError(_DAMAGED)
        elif kind == 0xC4:
            _read_codes(part, stream)
        elif kind == 0xDD and any(part):
            raise ValueError(_DAMAGED)
        elif kind == 0xDA:
            components, _, table, stream.predictor, _, shifts = struct.unpack_from(">6B", part)
            stream.table, stream.shift = table >> 4, shifts & 15
            if components != 1 or stream.shift >= stream.bits:
                raise ValueError(_DAMAGED)
            end = _END.search(data, at)
            stream.scan = data[at : end.start() if end else len(data)].replace(b"\xff\0", b"\xff")
            return stream


def _read_codes(part: bytes, stream: _Stream) -> None:
    at = 0
    while at + 17 <= len(part):
        counts = part[at + 1 : at + 17]
        stop = at + 17 + sum(counts)
        if stop > len(part):
            raise ValueError(_DAMAGED)
        stream.codes[part[at]] = (counts, part[at + 17 : stop])
        at = stop


def _lookup(counts: bytes, values: bytes) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """By the next 16 bits: the length of the code, `_INVALID` where there is none, and the size of the difference."""
    lengths, sizes = np.full(1 << 16, _INVALID, np.uint8), np.zeros(1 << 16, np.uint8)
    code, number = 0, 0
    for length, count in enumerate(counts, 1):
        for value in values[number : number + count]:
            span = 1 << (16 - length)
            if value > 16 or (code + 1) * span > 1 << 16:
                raise ValueError(_DAMAGED)
            lengths[code * span : (code + 1) * span] = length
            sizes[code * span : (code + 1) * span] = value
            code += 1
        number += count
        code <<= 1
    return lengths, sizes


def _differences(scan: bytes, lengths: NDArray[np.uint8], sizes: NDArray[np.uint8], pixels: int) -> NDArray[np.int32]:
    """The first `pixels` differences, int32[pixels]."""
    steps = np.where(lengths == _INVALID, _INVALID, lengths + np.where(sizes == 16, 0, sizes)).astype(np.uint8)
    padded = np.frombuffer(scan + b"\xff" * 8, np.uint8)
    found, known, at = np.empty(pixels, np.int32), 0, 0
    for start in range(0, len(scan), _BLOCK):
        stop = min(start + _BLOCK, len(scan))
        step_of = _steps(padded[start : stop + 2].astype(np.uint32), steps)
        places, end = [], 8 * (stop - start)
        at -= 8 * start
        while at < end:
            places.append(at)
            at += step_of[at]
        at += 8 * start
        values = _values(padded[start : stop + 8], np.array(places[: pixels - known], np.int64), lengths, sizes)
        found[known : known + len(values)] = values
        known += len(values)
        if known == pixels:
            return found
    raise ValueError(_DAMAGED)


def _steps(window: NDArray[np.uint32], steps: NDArray[np.uint8]) -> bytes:
    """At each bit of all but the last two bytes: how many bits on the next code starts."""
    next_24 = window[:-2] << 16 | window[1:-1] << 8 | window[2:]
    return np.stack([steps[next_24 >> (8 - bit) & 0xFFFF] for bit in range(8)], axis=1).tobytes()


def _values(
    data: NDArray[np.uint8], places: NDArray[np.int64], lengths: NDArray[np.uint8], sizes: NDArray[np.uint8]
) -> NDArray[np.int32]:
    """The differences whose codes start at the bits `places`."""
    first, bit = places >> 3, places & 7
    next_40 = sum(data[first + i].astype(np.int64) << (32 - 8 * i) for i in range(5))
    code = next_40 >> (24 - bit) & 0xFFFF
    length, size = lengths[code].astype(np.int64), sizes[code].astype(np.int64)
    if (length == _INVALID).any():
        raise ValueError(_DAMAGED)
    extra = np.where(size == 16, 0, size)
    value = next_40 >> (40 - bit - length - extra) & ((1 << extra) - 1)
    negative = value < (1 << size >> 1)
    return np.where(size == 16, 1 << 15, np.where(negative, value - (1 << size) + 1, value)).astype(np.int32)


def _sum_up(differences: NDArray[np.int32], predictor: int) -> NDArray[np.int32]:
    """Values modulo 2¹⁶ of differences from the predictions of table H.1; the first row's are from the left."""
    found = differences
    if predictor in (1, 4):
        np.cumsum(found[:, 0] if predictor == 1 else found, axis=0, out=found[:, 0] if predictor == 1 else found)
        np.cumsum(found, axis=1, out=found)
    else:
        np.cumsum(found[0], out=found[0])
        for row in range(1, len(found)):
            found[row] = _next_row(found[row - 1] & 0xFFFF, found[row], predictor)
    return found & 0xFFFF


def _next_row(above: NDArray[np.int32], row: NDArray[np.int32], predictor: int) -> NDArray[np.int32]:
    if predictor == 2:
        return above + row
    if predictor == 3:
        return row + _joined(above[:1], above[:-1])
    if predictor == 5:
        return np.asarray((row + _joined(above[:1], (above[1:] - above[:-1]) >> 1)).cumsum(dtype=np.int32), np.int32)
    values, up = row.tolist(), above.tolist()
    left = values[0] = (values[0] + up[0]) & 0xFFFF
    for i in range(1, len(values)):
        predicted = up[i] + ((left - up[i - 1]) >> 1) if predictor == 6 else (left + up[i]) >> 1
        left = values[i] = (values[i] + predicted) & 0xFFFF
    return np.array(values, np.int32)


def _joined(first: NDArray[np.int32], rest: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.concatenate([first, rest])
