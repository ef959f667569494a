"""Small image files of every kind, to mutate."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.images.dicoms import data_of, dataset, dicom, lut

NAME = "DOE^JANE MRN4711"
GREY = cv2.GaussianBlur(np.random.default_rng(3).integers(0, 256, (36, 41), dtype=np.uint8), (5, 5), 2)
TWELVE = np.round(GREY.astype(np.float64) * 4095 / 255).astype(np.uint16)


def image_files() -> dict[str, bytes]:
    """By kind: PNG, JPEG and DICOM files that can be read; the DICOM files name a patient."""
    exif = Image.Exif()
    exif[0x0112] = 6
    identity: dict[str, Any] = {"PatientName": NAME, "PatientID": NAME, "WindowCenter": 2048, "WindowWidth": 4096}
    made = {
        "PNG": cv2.imencode(".png", GREY)[1].tobytes(),
        "16-bit PNG": cv2.imencode(".png", TWELVE)[1].tobytes(),
        "palette PNG": _saved(Image.fromarray(GREY).convert("P"), "PNG", transparency=0, exif=exif),
        "JPEG": _saved(Image.fromarray(GREY), "JPEG", exif=exif, comment=NAME),
        "progressive JPEG": _saved(Image.fromarray(GREY).convert("CMYK"), "JPEG", progressive=True),
        "DICOM": dicom(TWELVE, VOILUTSequence=lut(0, 12, np.arange(4096)[::64]), **identity),
        "8-bit DICOM": dicom(GREY, bits=8, PatientName=NAME),
        "JPEG DICOM": data_of(encapsulated(dataset(GREY, bits=8, PatientName=NAME), JPEGBaseline8Bit, _jpeg())),
        "JPEG Lossless DICOM": data_of(
            encapsulated(dataset(TWELVE, **identity), JPEGLosslessSV1, jpeg_lossless(TWELVE))
        ),
    }
    for kind, syntax in (("RLE", RLELossless), ("JPEG 2000", JPEG2000Lossless), ("JPEG-LS", JPEGLSLossless)):
        file = dataset(TWELVE, **identity)
        file.compress(syntax, generate_instance_uid=False)
        made[f"{kind} DICOM"] = data_of(file)
    for kind, syntax in (("implicit", ImplicitVRLittleEndian), ("deflated", DeflatedExplicitVRLittleEndian)):
        file = dataset(TWELVE, **identity)
        file.file_meta.TransferSyntaxUID = syntax
        made[f"{kind} DICOM"] = data_of(file)
    return made


def encapsulated(made: Dataset, syntax: str, stream: bytes) -> Dataset:
    """`made` with a codestream as its pixel data, in two fragments."""
    stream += b"\0" * (len(stream) % 2)
    made.file_meta.TransferSyntaxUID = UID(syntax)
    half = len(stream) // 4 * 2
    items = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    for part in (stream[:half], stream[half:]):
        items += struct.pack("<HHI", 0xFFFE, 0xE000, len(part)) + part
    made.PixelData = items + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    return made


def jpeg_lossless(values: NDArray[Any], *, predictor: int = 1, bits: int = 12, shift: int = 0) -> bytes:
    """Values of [H, W] as a JPEG Lossless codestream (ISO 10918-1, annex H)."""
    rows, columns = values.shape
    code = ""
    for difference in _differences((values >> shift).tolist(), predictor, 1 << (bits - shift - 1)):
        size = abs(difference).bit_length()
        code += f"{size:05b}"  # the code of each size is itself, in five bits
        if 0 < size < 16:
            code += f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}"
    code += "1" * (-len(code) % 8)
    scan = int(code, 2).to_bytes(len(code) // 8, "big").replace(b"\xff", b"\xff\0")
    frame = b"\xff\xc3" + struct.pack(">HBHHBBBB", 11, bits, rows, columns, 1, 1, 0x11, 0)
    codes = b"\xff\xc4" + struct.pack(">HB", 36, 0) + bytes([0, 0, 0, 0, 17, *[0] * 11]) + bytes(range(17))
    start = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, predictor, 0, shift)
    return b"\xff\xd8" + frame + codes + start + scan + b"\xff\xd9"


def _differences(values: list[list[int]], predictor: int, first: int) -> Iterator[int]:
    """Of each value from its prediction by table H.1, in (-2¹⁵, 2¹⁵]."""
    for r, row in enumerate(values):
        for c, value in enumerate(row):
            a, b = row[c - 1], values[r - 1][c]
            corner = values[r - 1][c - 1]
            if r == 0 or c == 0:
                predicted = first if r == c == 0 else a if r == 0 else b
            else:
                choices = (
                    a,
                    b,
                    corner,
                    a + b - corner,
                    a + ((b - corner) >> 1),
                    b + ((a - corner) >> 1),
                    (a + b) >> 1,
                )
                predicted = choices[predictor - 1]
            difference = (value - predicted) % 65536
            yield difference if difference <= 1 << 15 else difference - 65536


def _jpeg() -> bytes:
    return cv2.imencode(".jpg", GREY, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
