"""The elements of a DICOM file that the reading of a radiograph needs; nothing else of the file is looked at.

A parser of our own (PS3.5, sections 7 and 10): pydicom's warnings and exceptions repeat values, which may name a
patient, and it inflates and collects whatever a file announces. Values of elements outside `ALLOWED` are skipped
unread, and the work is bounded.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from chexvision.images.dicom_tags import ALLOWED, DAMAGED, SEQUENCES, Elements, name_of

IMPLICIT, EXPLICIT, BIG, DEFLATED = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".2", ".1.99"))

_PIXELS = 0x7FE00010
_OTHER_PIXELS = (0x7FE00008, 0x7FE00009)  # float and double
_ITEM, _END_OF_ITEM, _END_OF_SEQUENCE = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_SYNTAX = 0x00020010
_UNDEFINED = 0xFFFFFFFF
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_MOST_ELEMENTS = 200_000  # radiographs have hundreds
_LONGEST_VALUE = 2**18  # a table of 65,536 entries has 2¹⁷ bytes
_DEEPEST = 16
_LARGEST_INFLATED = 2**28


@dataclass(frozen=True, slots=True)
class DicomFile:
    """What is needed of a file.

    Args:
        syntax: the transfer syntax; of files that do not name it, the one they are written in.
        elements: those of its data set.
        pixels: the value of the pixel data; None where it consists of `fragments`.
        fragments: the encoded parts of compressed pixel data, without the table of offsets.
    """

    syntax: str
    elements: Elements
    pixels: memoryview | None
    fragments: tuple[memoryview, ...] = ()


def is_dicom(data: bytes) -> bool:
    """Whether a file starts as DICOM files do, with or without their preamble; its first 132 bytes are enough."""
    if data[128:132] == b"DICM":
        return True
    group, element = struct.unpack("<HH", data[:4].ljust(4, b"\0"))
    head = data[4:6] in (b"UL", b"OB", b"UI", b"CS") or (data[8:10] and data[6:8] == b"\0\0")
    return bool(head) and ((group == 2 and element <= 0x10) or (group == 8 and element <= 0x16))


def read_elements(data: bytes) -> DicomFile:
    """Find the `ALLOWED` elements and the pixel data of a file.

    Raises:
        ValueError: it is damaged, or announces more than a radiograph needs; the text contains nothing of the file.
    """
    try:
        return _read(data)
    except (struct.error, IndexError):
        raise ValueError("truncated DICOM file") from None


def _read(data: bytes) -> DicomFile:
    at = 132 if data[128:132] == b"DICM" else 0
    syntax, at = _read_meta(memoryview(data), at)
    if syntax == DEFLATED:
        data, at = _inflate(data[at:]), 0
    first = data[at : at + 6]
    explicit = first[4:6].isalpha() and first[4:6].isupper()  # whatever the file says of itself
    big = syntax == BIG if syntax else first[:1] == b"\0"
    reader = _Reader(memoryview(data), at, explicit, big)
    elements = Elements(big=big)
    for head in reader.heads():
        if head.tag == _PIXELS:
            known = syntax or (BIG if big else EXPLICIT if explicit else IMPLICIT)
            if head.length == _UNDEFINED:
                return DicomFile(known, elements, None, tuple(reader.fragments()))
            return DicomFile(known, elements, reader.take(head.length))
        if head.tag in _OTHER_PIXELS:
            raise ValueError("its pixels are floating-point numbers, not those of a radiograph")
        reader.keep(head, elements)
    raise ValueError("this DICOM file contains no image")


def _read_meta(data: memoryview, at: int) -> tuple[str, int]:
    """The transfer syntax, empty where it is missing, and where the data set starts."""
    syntax = ""
    reader = _Reader(data, at, explicit=True, big=False)
    while bytes(data[reader.at : reader.at + 2]) == b"\2\0":
        head = reader.head()
        value = reader.take(head.length)
        if head.tag == _SYNTAX:
            syntax = bytes(value[:64]).decode("ascii", "replace").strip(" \0")
    return syntax, reader.at


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj(-15)
    try:
        found = inflater.decompress(data, _LARGEST_INFLATED)
    except zlib.error:
        raise ValueError(DAMAGED) from None
    if inflater.unconsumed_tail:
        raise ValueError(f"more than {_LARGEST_INFLATED >> 20} MiB uncompressed")
    return found


class _Head(NamedTuple):
    tag: int
    kind: bytes  # the value representation; empty where it is implicit
    length: int


class _Reader:
    """Reads elements one after the other, skipping most, and counts them."""

    def __init__(self, data: memoryview, at: int, explicit: bool, big: bool) -> None:
        self.data, self.at, self.explicit = data, at, explicit
        order = ">" if big else "<"
        self._two, self._four = struct.Struct(f"{order}HH"), struct.Struct(f"{order}I")
        self._short = struct.Struct(f"{order}H")
        self._left = _MOST_ELEMENTS

    def head(self) -> _Head:
        """The next element's tag, kind and length; `at` is then at its value."""
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"more than {_MOST_ELEMENTS:,} elements: not a radiograph")
        group, element = self._two.unpack_from(self.data, self.at)
        kind, length_at = b"", self.at + 4
        if self.explicit and group != 0xFFFE:
            kind = bytes(self.data[self.at + 4 : self.at + 6])
            if kind not in _LONG:
                (length,) = self._short.unpack_from(self.data, self.at + 6)
                self.at += 8
                return _Head(group << 16 | element, kind, length)
            length_at = self.at + 8
        (length,) = self._four.unpack_from(self.data, length_at)
        self.at = length_at + 4
        return _Head(group << 16 | element, kind, length)

    def heads(self) -> Iterator[_Head]:
        """The heads up to the end; the caller moves `at` past each value."""
        while self.at < len(self.data):
            yield self.head()

    def take(self, length: int) -> memoryview:
        """The value of an element of known length."""
        if length > len(self.data) - self.at:
            raise IndexError
        self.at += length
        return self.data[self.at - length : self.at]

    def keep(self, head: _Head, elements: Elements, depth: int = 0) -> None:
        """Pass an element, and put it into `elements` if it is allowed."""
        if head.tag in SEQUENCES and depth == 0:
            self._sequence(head, elements.items.setdefault(head.tag, Elements(big=elements.big)), depth)
        elif head.length == _UNDEFINED:
            self._sequence(head, None, depth)
        elif head.tag in ALLOWED:
            value = self.take(head.length)
            if head.length > _LONGEST_VALUE:
                raise ValueError(f"{DAMAGED}: element {name_of(head.tag)} is too long")
            elements.values[head.tag] = bytes(value)
        else:
            self.take(head.length)

    def _sequence(self, sequence: _Head, first: Elements | None, depth: int) -> None:
        """Pass a sequence; the allowed elements of its first item go to `first`."""
        if depth == _DEEPEST:
            raise ValueError(f"{DAMAGED}: sequences are nested too deeply")
        explicit = self.explicit
        if sequence.kind == b"UN" and sequence.length == _UNDEFINED:
            self.explicit = False  # PS3.5, section 6.2.2
        stop = len(self.data) if sequence.length == _UNDEFINED else self.at + sequence.length
        if stop > len(self.data):
            raise IndexError
        while self.at < stop:
            item = self.head()
            if item.tag == _END_OF_SEQUENCE:
                break
            if item.tag != _ITEM:
                raise ValueError(f"{DAMAGED}: a sequence has something else than items")
            if first is None and item.length != _UNDEFINED:
                self.take(item.length)
            else:
                self._item(item, Elements() if first is None else first, depth)
            first = None
        self.explicit = explicit

    def _item(self, item: _Head, elements: Elements, depth: int) -> None:
        stop = len(self.data) if item.length == _UNDEFINED else self.at + item.length
        while self.at < stop:
            head = self.head()
            if head.tag == _END_OF_ITEM:
                return
            self.keep(head, elements, depth + 1)

    def fragments(self) -> Iterator[memoryview]:
        """The parts of encapsulated pixel data after the table of offsets; a missing end is accepted."""
        number = 0
        while self.at < len(self.data):
            head = self.head()
            if head.tag == _END_OF_SEQUENCE:
                return
            if head.tag != _ITEM:
                raise ValueError(f"{DAMAGED}: its compressed pixels have no parts")
            value = self.take(head.length)
            if number:
                yield value
            number += 1
