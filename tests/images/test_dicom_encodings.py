"""DICOM files in every encoding have the same pixels, and none makes a decoder take more than the file has."""

from __future__ import annotations

import builtins
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from chexvision.errors import UsageError
from chexvision.images.reading import as_radiograph, read_radiograph
from tests.images.dicoms import FULL, GREY, data_of, dataset, dicom, lut, same
from tests.images.seeds import encapsulated, jpeg_lossless


def compressed(syntax: str, pixels: NDArray[Any], **changed: Any) -> bytes:
    made = dataset(pixels, **changed)
    made.compress(syntax, generate_instance_uid=False)
    return data_of(made)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lossless_compression(syntax: str, bits: int) -> None:
    top = (1 << bits) - 1
    values = np.round(GREY * (top / 255)).astype(np.uint16)
    window: dict[str, Any] = {} if bits == 8 else {"WindowCenter": top / 2 + 0.5, "WindowWidth": top + 1}
    assert same(read_radiograph(compressed(syntax, values, bits=bits, **window)))


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_signed_compression(syntax: str) -> None:
    values = np.round(GREY.astype(np.float64) * 4095 / 255).astype(np.int16) - 2048
    assert same(read_radiograph(compressed(syntax, values, signed=True, WindowCenter=0, WindowWidth=4096)))


@pytest.mark.parametrize("syntax", [JPEGLossless, JPEGLosslessSV1])
def test_jpeg_lossless(syntax: str) -> None:
    values = np.round(GREY.astype(np.float64) * 4095 / 255).astype(np.uint16)
    assert same(read_radiograph(data_of(encapsulated(dataset(values, **FULL), syntax, jpeg_lossless(values)))))


def test_jpeg_baseline() -> None:
    smooth = cv2.GaussianBlur(GREY, (9, 9), 4)
    stream = cv2.imencode(".jpg", smooth, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    found = read_radiograph(data_of(encapsulated(dataset(smooth, bits=8), JPEGBaseline8Bit, stream)))
    assert np.array_equal(found.pixels, read_radiograph(stream).pixels)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_encodings_of_the_elements(syntax: str) -> None:
    made = dataset(np.round(GREY.astype(np.float64) * 4095 / 255).astype(np.uint16), **FULL)
    made.VOILUTSequence = lut(0, 12, np.arange(4096))
    if syntax == ExplicitVRBigEndian:
        made.PixelData = np.frombuffer(made.PixelData, "<u2").byteswap().tobytes()
        made.VOILUTSequence[0].LUTData = np.arange(4096).astype(">u2").tobytes()
    made.file_meta.TransferSyntaxUID = UID(syntax)
    assert same(read_radiograph(data_of(made)))


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
def test_a_file_without_preamble_and_meta_information(syntax: str) -> None:
    made = dataset(np.round(GREY.astype(np.float64) * 4095 / 255).astype(np.uint16), **FULL)
    made.file_meta.TransferSyntaxUID = UID(syntax)
    data = data_of(made)
    length = struct.unpack_from("<I", data, 140)[0]
    assert same(read_radiograph(data[132:]))  # its group 2 tells the encoding
    assert same(read_radiograph(data[144 + length :]))


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_a_codestream_of_another_size_than_the_file_is_not_decoded(syntax: str) -> None:
    made = dataset(GREY, bits=8)
    made.compress(syntax, generate_instance_uid=False)
    made.Rows, made.Columns = 71, 82
    with pytest.raises(ValueError, match="compressed pixels cannot be decoded"):
        read_radiograph(data_of(made))


@pytest.mark.parametrize(
    "field", [(60_000, 60_000, 0, 0, 60_000, 60_000), (82, 70, 0, 0, 1, 1)], ids=["pixels", "tiles"]
)
def test_a_codestream_that_announces_more_than_the_file_never_meets_the_decoder(
    field: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray(compressed(JPEG2000Lossless, GREY, bits=8))
    at = data.find(b"\xff\x4f\xff\x51")
    data[at + 8 : at + 8 + 4 * len(field)] = struct.pack(f">{len(field)}I", *field)
    monkeypatch.setattr("openjpeg.decode", lambda stream: pytest.fail("it is decoded"))
    with pytest.raises(ValueError, match="compressed pixels cannot be decoded"):
        read_radiograph(bytes(data))


def test_a_deflate_bomb_is_refused() -> None:
    made = dataset(GREY, bits=8)
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data = data_of(made)
    length = struct.unpack_from("<I", data, 140)[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(packer.compress(b"\0" * 2**20) for _ in range(300)) + packer.flush()
    with pytest.raises(ValueError, match="more than 256 MiB"):
        read_radiograph(data[: 144 + length] + bomb)


def test_very_many_elements_are_refused() -> None:
    data = dicom(GREY, bits=8)
    length = struct.unpack_from("<I", data, 140)[0]
    many = struct.pack("<HH2sH", 9, 0x1001, b"LO", 0) * 300_000
    with pytest.raises(ValueError, match="elements: not a radiograph"):
        read_radiograph(data[: 144 + length] + many)


def test_deep_sequences_are_refused() -> None:
    data = dicom(GREY, bits=8)
    length = struct.unpack_from("<I", data, 140)[0]
    deep = struct.pack("<HH2sHI", 9, 0x1001, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_radiograph(data[: 144 + length] + deep * 10_000)


def test_the_extra_is_named_where_a_decoder_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = compressed(JPEG2000Lossless, GREY, bits=8)
    usual = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "openjpeg":
            raise ImportError(name)
        return usual(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"needs a decoder: pip install 'chexvision\[dicom\]'"):
        as_radiograph(data)


def test_a_jpeg_in_color_has_the_luminance_of_its_colors() -> None:
    color = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (80, 90, 3), dtype=np.uint8), (9, 9), 4)
    stream = cv2.imencode(".jpg", color)[1].tobytes()
    made = dataset(color, bits=8, PhotometricInterpretation="YBR_FULL_422")
    found = read_radiograph(data_of(encapsulated(made, JPEGBaseline8Bit, stream)), any_view=True)
    assert np.array_equal(found.pixels, read_radiograph(stream).pixels)
