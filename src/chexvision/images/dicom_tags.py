"""Which elements of a DICOM file are read, and their values."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import Final

DAMAGED: Final = "damaged DICOM file"

MODALITY: Final = 0x00080060
INTENT: Final = 0x00080068  # PresentationIntentType
CODE_VALUE: Final = 0x00080100
BODY_PART: Final = 0x00180015
VIEW_POSITION: Final = 0x00185101
PATIENT_ORIENTATION: Final = 0x00200020
SAMPLES: Final = 0x00280002
PHOTOMETRIC: Final = 0x00280004
PLANAR: Final = 0x00280006
FRAMES: Final = 0x00280008
ROWS: Final = 0x00280010
COLUMNS: Final = 0x00280011
ASPECT: Final = 0x00280034
BITS_ALLOCATED: Final = 0x00280100
BITS_STORED: Final = 0x00280101
HIGH_BIT: Final = 0x00280102
SIGNED: Final = 0x00280103  # PixelRepresentation
PADDING: Final = 0x00280120
PADDING_LIMIT: Final = 0x00280121
BURNED_IN: Final = 0x00280301
WINDOW_CENTER: Final = 0x00281050
WINDOW_WIDTH: Final = 0x00281051
INTERCEPT: Final = 0x00281052
SLOPE: Final = 0x00281053
VOI_FUNCTION: Final = 0x00281056
RED: Final = (0x00281101, 0x00281201)  # descriptor and data of a palette
GREEN: Final = (0x00281102, 0x00281202)
BLUE: Final = (0x00281103, 0x00281203)
MODALITY_LUT: Final = 0x00283000
LUT_DESCRIPTOR: Final = 0x00283002
LUT_DATA: Final = 0x00283006
VOI_LUT: Final = 0x00283010
VIEW_CODES: Final = 0x00540220
PRESENTATION_LUT: Final = 0x20500020  # PresentationLUTShape

SEQUENCES: Final = frozenset({MODALITY_LUT, VOI_LUT, VIEW_CODES})
ALLOWED: Final = frozenset(
    {
        *(MODALITY, INTENT, BODY_PART, VIEW_POSITION, PATIENT_ORIENTATION, SAMPLES, PHOTOMETRIC, PLANAR, FRAMES),
        *(ROWS, COLUMNS, ASPECT, BITS_ALLOCATED, BITS_STORED, HIGH_BIT, SIGNED, PADDING, PADDING_LIMIT, BURNED_IN),
        *(WINDOW_CENTER, WINDOW_WIDTH, INTERCEPT, SLOPE, VOI_FUNCTION, *RED, *GREEN, *BLUE, PRESENTATION_LUT),
        *(CODE_VALUE, LUT_DESCRIPTOR, LUT_DATA),  # inside the sequences
        *SEQUENCES,
    }
)

_DECIMAL = re.compile(r"[+-]?(\d{1,32}\.?\d{0,32}|\.\d{1,32})(E[+-]?\d{1,3})?")


@dataclass(frozen=True, slots=True)
class Elements:
    """Values of `ALLOWED` elements of a data set, as bytes.

    Args:
        values: by tag; of sequences nothing.
        items: of sequences, their first item.
        big: whether numbers are big endian.
    """

    values: dict[int, bytes] = field(default_factory=dict)
    items: dict[int, Elements] = field(default_factory=dict)
    big: bool = False

    def texts(self, tag: int) -> tuple[str, ...]:
        """The values of a text in capitals, without blanks; empty where it is missing."""
        text = self.values.get(tag, b"").decode("ascii", "replace").strip(" \0")
        return tuple(part.strip(" \0").upper() for part in text.split("\\")) if text else ()

    def text(self, tag: int) -> str:
        """The first value, or an empty text."""
        return next(iter(self.texts(tag)), "")

    def decimals(self, tag: int) -> tuple[float, ...]:
        """The values of a decimal string.

        Raises:
            ValueError: one is not a number; the text does not repeat it.
        """
        texts = self.texts(tag)
        if not all(_DECIMAL.fullmatch(text) for text in texts):  # the exception of float() repeats its text
            raise ValueError(f"{DAMAGED}: element {name_of(tag)} is not a number")
        return tuple(map(float, texts))

    def shorts(self, tag: int) -> tuple[int, ...]:
        """The values of unsigned 16-bit integers."""
        data = self.values.get(tag, b"")
        return struct.unpack(f"{'>' if self.big else '<'}{len(data) // 2}H", data[: len(data) // 2 * 2])

    def short(self, tag: int, default: int | None = None) -> int:
        """The first of them.

        Raises:
            ValueError: it is missing and there is no default.
        """
        found = self.shorts(tag)
        if found or default is not None:
            return found[0] if found else default or 0
        raise ValueError(f"{DAMAGED}: it has no element {name_of(tag)}")


def name_of(tag: int) -> str:
    """A tag as the standard writes it, for instance (0028,0010)."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
