"""A radiograph as a DICOM file: explicit VR, little endian, not compressed (PS3.5, section 7; PS3.10, section 7)."""

from __future__ import annotations

import struct

import numpy as np

from chexvision.images.radiograph import Grey

_DX = "1.2.840.10008.5.1.4.1.1.1.1"  # Digital X-Ray Image Storage - For Presentation
_EXPLICIT = "1.2.840.10008.1.2.1"
_BITS = 12
_LONG = ("OB", "OW")


def dicom_file(grey: Grey, uid: str, view: str, *, monochrome1: bool = False) -> bytes:
    """Encode uint8[H, W] as 12-bit values of a chest radiograph without any data of a patient.

    Args:
        grey: the image.
        uid: of the instance: digits and dots.
        view: "PA", "AP", "LL" or "LATERAL".
        monochrome1: store the smallest value as white.
    """
    top = (1 << _BITS) - 1
    values = np.round(grey.astype(np.float64) * top / 255).astype("<u2")
    if monochrome1:
        values = (top - values).astype("<u2")
    height, width = grey.shape
    meta = b"".join(
        (
            _element(0x0002, 0x0001, "OB", b"\0\1"),
            _element(0x0002, 0x0002, "UI", _DX),
            _element(0x0002, 0x0003, "UI", uid),
            _element(0x0002, 0x0010, "UI", _EXPLICIT),
        )
    )
    elements = (
        _element(0x0008, 0x0016, "UI", _DX),
        _element(0x0008, 0x0018, "UI", uid),
        _element(0x0008, 0x0060, "CS", "DX"),
        _element(0x0018, 0x0015, "CS", "CHEST"),
        _element(0x0018, 0x5101, "CS", view),
        _element(0x0028, 0x0002, "US", 1),
        _element(0x0028, 0x0004, "CS", "MONOCHROME1" if monochrome1 else "MONOCHROME2"),
        _element(0x0028, 0x0010, "US", height),
        _element(0x0028, 0x0011, "US", width),
        _element(0x0028, 0x0100, "US", 16),
        _element(0x0028, 0x0101, "US", _BITS),
        _element(0x0028, 0x0102, "US", _BITS - 1),
        _element(0x0028, 0x0103, "US", 0),
        _element(0x0028, 0x1050, "DS", str((top + 1) // 2)),
        _element(0x0028, 0x1051, "DS", str(top + 1)),
        _element(0x7FE0, 0x0010, "OW", values.tobytes()),
    )
    return b"\0" * 128 + b"DICM" + _element(0x0002, 0x0000, "UL", len(meta)) + meta + b"".join(elements)


def _element(group: int, number: int, kind: str, value: str | int | bytes) -> bytes:
    if isinstance(value, int):
        data = struct.pack("<I" if kind == "UL" else "<H", value)
    else:
        data = value.encode("ascii") if isinstance(value, str) else value
        data += (b"\0" if kind in ("UI", *_LONG) else b" ") * (len(data) % 2)
    length = struct.pack("<2xI" if kind in _LONG else "<H", len(data))
    return struct.pack("<HH", group, number) + kind.encode("ascii") + length + data
