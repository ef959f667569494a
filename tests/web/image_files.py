"""The same image in the formats that radiographs come in."""

from __future__ import annotations

import io
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import cv2
import gdcm
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

Gray = NDArray[np.uint8]

# Nothing of this may be shown, whatever happens to a file.
PATIENT = {
    "PatientName": "Doe^Jane",
    "PatientID": "MRN-4711",
    "PatientBirthDate": "19700229",
    "AccessionNumber": "ACC-0815",
    "StudyDescription": "Chest of Jane Doe",
    "InstitutionName": "General Hospital",
}


def png(pixels: NDArray[Any], *options: int) -> bytes:
    """A PNG of 8 or 16 bits; colors are BGR."""
    return bytes(cv2.imencode(".png", pixels, list(options))[1].tobytes())


def jpeg(pixels: NDArray[Any], quality: int = 95) -> bytes:
    """A JPEG."""
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())


def pillow(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """A file as Pillow writes it."""
    written = io.BytesIO()
    image.save(written, kind, **options)
    return written.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def with_chunk(file: bytes, kind: bytes, content: bytes) -> bytes:
    """A PNG with one more chunk after its header."""
    return file[:33] + chunk(kind, content) + file[33:]


def interlaced_png(pixels: Gray) -> bytes:
    """An Adam7 PNG, which OpenCV and Pillow do not write; its rows are not filtered."""
    rows = b""
    for x, y, dx, dy in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        part = pixels[y::dy, x::dx]
        rows += b"".join(b"\0" + row.tobytes() for row in part if row.size)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 0, 0, 0, 1)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def exif(orientation: int) -> bytes:
    """A TIFF block that holds an orientation."""
    return b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0) + bytes(4)


def dataset(values: NDArray[Any], bits: int, **elements: Any) -> Dataset:
    """A frontal radiograph of a chest with a patient in it; elements that are None are left out."""
    allocated = 8 if bits <= 8 else 16
    signed = bool((values < 0).any())
    made = Dataset()
    made.file_meta = FileMetaDataset()
    syntax: UID = elements.pop("syntax", ExplicitVRLittleEndian)
    made.file_meta.TransferSyntaxUID = syntax
    made.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    made.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    big = syntax == ExplicitVRBigEndian
    given = {
        **PATIENT,
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": "1.2.3.4",
        "Modality": "DX",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "Rows": values.shape[0],
        "Columns": values.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": allocated,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(signed),
        "PixelData": values.astype(f"{'>' if big else '<'}{'i' if signed else 'u'}{allocated // 8}").tobytes(),
        **elements,
    }
    for name, value in given.items():
        if value is not None:
            setattr(made, name, value)
    made["PixelData"].VR = "OB" if allocated == 8 else "OW"
    return made


def saved(made: Dataset) -> bytes:
    """The bytes of a file."""
    written = io.BytesIO()
    made.save_as(written, enforce_file_format=True)
    return written.getvalue()


def dicom(values: NDArray[Any], bits: int, **elements: Any) -> bytes:
    """A file of `dataset`; with ``compress=`` and a transfer syntax, compressed."""
    compress = elements.pop("compress", None)
    made = dataset(values, bits, **elements)
    if compress == JPEGBaseline8Bit:
        made.PixelData = encapsulate([jpeg(values.astype(np.uint8))])
        made["PixelData"].is_undefined_length = True
        made.file_meta.TransferSyntaxUID = compress
    elif compress == JPEGLosslessSV1:
        return _jpeg_lossless(made)
    elif compress is not None:
        made.compress(compress, encoding_plugin="pydicom" if compress == RLELossless else "")
    return saved(made)


def _jpeg_lossless(made: Dataset) -> bytes:
    """Compressed by GDCM, which works on files."""
    with tempfile.TemporaryDirectory() as folder:
        plain, compressed = Path(folder, "plain.dcm"), Path(folder, "compressed.dcm")
        plain.write_bytes(saved(made))
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(plain))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(compressed))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return compressed.read_bytes()


SYNTAXES = {
    "implicit": {"syntax": ImplicitVRLittleEndian},
    "big endian": {"syntax": ExplicitVRBigEndian},
    "deflated": {"syntax": DeflatedExplicitVRLittleEndian},
    "RLE": {"compress": RLELossless},
    "JPEG lossless": {"compress": JPEGLosslessSV1},
    "JPEG-LS": {"compress": JPEGLSLossless},
    "JPEG 2000": {"compress": JPEG2000Lossless},
}
