"""A radiograph as a DICOM file, not compressed: what synthetic releases need, without a library."""

from __future__ import annotations

import struct
import uuid
from typing import Literal

import numpy as np
from numpy.typing import NDArray

_EXPLICIT = "1.2.840.10008.1.2.1"  # little endian, PS3.5 A.2
_DX = "1.2.840.10008.5.1.4.1.1.1.1"  # Digital X-Ray Image Storage - For Presentation
_LONG = ("OB", "OW", "UN")  # VRs whose length has 32 bits, PS3.5 7.1.2


def dicom_file(
    values: NDArray[np.uint16],
    *,
    name: str,
    bits: int = 12,
    inverted: bool = False,
    view: Literal["PA", "AP", "LL"] | None = "PA",
    orientation: str | None = None,
) -> bytes:
    """A chest radiograph (DX) as the bytes of a DICOM file; equal arguments give equal bytes.

    Args:
        values: uint16[H, W] of `bits` bits, as detectors give them: bright where `inverted` is dark.
        name: of the image; its UID follows from it.
        bits: 9 to 16.
        inverted: MONOCHROME1, whose smallest value is white.
        view: of ViewPosition; None leaves it out, as releases without patients' data do.
        orientation: of PatientOrientation, such as ``L\\F``.
    """
    rows, columns = values.shape
    instance = f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}"  # PS3.5 B.2
    elements: list[tuple[int, int, str, bytes]] = [
        (0x0008, 0x0016, "UI", _uid(_DX)),
        (0x0008, 0x0018, "UI", _uid(instance)),
        (0x0008, 0x0060, "CS", _text("DX")),
        (0x0018, 0x0015, "CS", _text("CHEST")),
        (0x0018, 0x5101, "CS", _text(view or "")),
        (0x0020, 0x0020, "CS", _text(orientation or "")),
        (0x0028, 0x0002, "US", struct.pack("<H", 1)),
        (0x0028, 0x0004, "CS", _text("MONOCHROME1" if inverted else "MONOCHROME2")),
        (0x0028, 0x0010, "US", struct.pack("<H", rows)),
        (0x0028, 0x0011, "US", struct.pack("<H", columns)),
        (0x0028, 0x0100, "US", struct.pack("<H", 16)),
        (0x0028, 0x0101, "US", struct.pack("<H", bits)),
        (0x0028, 0x0102, "US", struct.pack("<H", bits - 1)),
        (0x0028, 0x0103, "US", struct.pack("<H", 0)),
        (0x0028, 0x1050, "DS", _text(str(1 << (bits - 1)))),
        (0x0028, 0x1051, "DS", _text(str(1 << bits))),
        (0x7FE0, 0x0010, "OW", np.ascontiguousarray(values, "<u2").tobytes()),
    ]
    body = b"".join(_element(*element) for element in elements if element[3])
    meta = b"".join(
        _element(2, number, kind, value)
        for number, kind, value in (
            (0x0001, "OB", b"\0\1"),
            (0x0002, "UI", _uid(_DX)),
            (0x0003, "UI", _uid(instance)),
            (0x0010, "UI", _uid(_EXPLICIT)),
        )
    )
    return b"\0" * 128 + b"DICM" + _element(2, 0, "UL", struct.pack("<I", len(meta))) + meta + body


def _element(group: int, number: int, kind: str, value: bytes) -> bytes:
    head = struct.pack("<HH2s", group, number, kind.encode())
    length = struct.pack("<HI", 0, len(value)) if kind in _LONG else struct.pack("<H", len(value))
    return head + length + value


def _text(text: str) -> bytes:
    return (text + " " * (len(text) % 2)).encode("ascii")  # values have an even length


def _uid(text: str) -> bytes:
    return (text + "\0" * (len(text) % 2)).encode("ascii")
