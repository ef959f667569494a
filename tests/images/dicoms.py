"""DICOM files around pixels, written by pydicom."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileMetaDataset, Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from chexvision.images.reading import Radiograph

DX = UID("1.2.840.10008.5.1.4.1.1.1.1")  # Digital X-Ray Image Storage - For Presentation
GREY = np.random.default_rng(3).integers(0, 256, (70, 82), dtype=np.uint8)
GREY[0] = np.arange(82) * 3
FULL: dict[str, Any] = {"WindowCenter": 2048, "WindowWidth": 4096}


def dataset(pixels: NDArray[Any], *, bits: int = 12, signed: Any = False, **changed: Any) -> Dataset:
    """A chest radiograph, PA, with uint or int pixels [H, W] or [H, W, 3]; None leaves an element out."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = DX
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid(entropy_srcs=["a"])
    made.Modality, made.BodyPartExamined, made.ViewPosition = "DX", "CHEST", "PA"
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    made.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit = 8 if bits == 8 else 16, bits, bits - 1
    made.PixelRepresentation = int(signed)
    kind = np.dtype(np.uint8) if bits == 8 else np.dtype("<i2" if signed else "<u2")
    made.PixelData = pixels.astype(kind).tobytes() + b"\0" * (pixels.size % 2 if bits == 8 else 0)
    made["PixelData"].VR = "OB" if bits == 8 else "OW"
    for keyword, value in changed.items():
        if value is None:
            del made[keyword]
        else:
            setattr(made, keyword, value)
    return made


def data_of(made: Dataset, **options: Any) -> bytes:
    """The bytes of a complete file."""
    file = io.BytesIO()
    made.save_as(file, enforce_file_format=True, **options)
    return file.getvalue()


def dicom(pixels: NDArray[Any], **changed: Any) -> bytes:
    """`dataset` as a file."""
    return data_of(dataset(pixels, **changed))


def windowed(grey: NDArray[np.uint8], *, inverted: bool = False, **changed: Any) -> bytes:
    """8-bit gray as 12-bit DICOM with the window of all 12-bit values; `inverted`: as MONOCHROME1."""
    values = np.round(grey.astype(np.float64) * 4095 / 255).astype(np.uint16)
    if inverted:
        changed["PhotometricInterpretation"] = "MONOCHROME1"
        values = 4095 - values
    return dicom(values, WindowCenter=2048, WindowWidth=4096, **changed)


def lut(first: int, bits: int, entries: NDArray[Any]) -> Sequence:
    """A sequence with one lookup table."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return Sequence([item])


def same(found: Radiograph, grey: NDArray[np.uint8] = GREY) -> bool:
    """Whether a file was read as these pixels, without a warning."""
    return bool(np.array_equal(found.pixels, grey)) and not found.warnings
