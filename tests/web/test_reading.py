"""The page reads files as Python does: equal pixels, notes and warnings, and the same refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from chexvision.images.reading import read_radiograph
from tests.web.image_files import (
    PATIENT,
    SYNTAXES,
    Gray,
    chunk,
    dicom,
    exif,
    interlaced_png,
    jpeg,
    pillow,
    png,
    with_chunk,
)
from tests.web.in_browser import Read, digest_of, read_all_in, read_in


def _image(height: int = 61, width: int = 83) -> Gray:
    """Smooth with some noise, every value from 0 to 255."""
    rows, columns = np.mgrid[:height, :width]
    smooth = 127 + 90 * np.sin(rows / 9) * np.cos(columns / 13)
    noise = np.random.default_rng(5).normal(0, 20, smooth.shape)
    noisy: Gray = np.clip(smooth + noise, 0, 255).astype(np.uint8)
    noisy[0, 0], noisy[-1, -1] = 0, 255
    return noisy


GRAY = _image()
COLOR = cv2.applyColorMap(GRAY, cv2.COLORMAP_JET)
VALUES = np.round(GRAY.astype(np.float64) * 4095 / 255).astype(np.int64)  # 12 bits
RANDOM_16 = np.random.default_rng(6).integers(0, 2**16, (37, 41, 3)).astype(np.uint16)


def _lut() -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, 12])
    item.add_new("LUTData", "OW", np.round(4095 * (np.arange(4096) / 4095) ** 1.5).astype("<u2").tobytes())
    return item


FILES: dict[str, Callable[[], bytes]] = {
    "gray PNG": lambda: png(GRAY),
    "RGB PNG": lambda: png(COLOR),
    "RGBA PNG": lambda: png(np.dstack([COLOR, GRAY])),
    "gray PNG with alpha": lambda: pillow(Image.fromarray(GRAY).convert("LA")),
    "PNG with a transparent color": lambda: pillow(Image.fromarray(GRAY), transparency=3),
    "palette PNG": lambda: pillow(Image.fromarray(COLOR[..., ::-1]).quantize(37)),
    "palette PNG of 4 bits": lambda: pillow(Image.fromarray(COLOR[..., ::-1]).quantize(11)),
    "PNG of 1 bit": lambda: png((GRAY > 127).astype(np.uint8) * 255, cv2.IMWRITE_PNG_BILEVEL, 1),
    "interlaced PNG": lambda: interlaced_png(GRAY),
    "interlaced PNG of one pixel": lambda: interlaced_png(GRAY[:1, :1]),
    "PNG of 16 bits": lambda: png(RANDOM_16[..., 0]),
    "RGB PNG of 16 bits": lambda: png(RANDOM_16),
    "PNG of 12 bits in 16": lambda: png(VALUES.astype(np.uint16)),
    "PNG of 12 bits with sBIT": lambda: with_chunk(png((VALUES << 4).astype(np.uint16)), b"sBIT", b"\x0c"),
    "PNG with EXIF": lambda: with_chunk(png(GRAY), b"eXIf", exif(5)),
    "gray JPEG": lambda: jpeg(GRAY),
    "gray JPEG of low quality": lambda: jpeg(GRAY, 30),
    "color JPEG": lambda: jpeg(COLOR),
    "color JPEG without subsampling": lambda: pillow(Image.fromarray(COLOR[..., ::-1]), "JPEG", subsampling=0),
    "progressive JPEG": lambda: pillow(Image.fromarray(GRAY), "JPEG", progressive=True),
    "DICOM of 8 bits": lambda: dicom(GRAY, 8),
    "DICOM without a window": lambda: dicom(VALUES, 12),
    "DICOM with a window": lambda: dicom(VALUES, 12, WindowCenter=2000, WindowWidth=3000),
    "DICOM with an exact window": lambda: dicom(
        VALUES, 12, WindowCenter="2047.5", WindowWidth=4095, VOILUTFunction="LINEAR_EXACT"
    ),
    "DICOM with a sigmoid": lambda: dicom(VALUES, 12, WindowCenter=1500, WindowWidth=800, VOILUTFunction="SIGMOID"),
    "DICOM with two windows and rescaling": lambda: dicom(
        VALUES, 12, WindowCenter=[900, 4], WindowWidth=[2500, 9], RescaleSlope="1.5", RescaleIntercept="-300"
    ),
    "DICOM with a VOI LUT": lambda: dicom(VALUES, 12, VOILUTSequence=[_lut()]),
    "DICOM with a modality LUT": lambda: dicom(VALUES, 12, ModalityLUTSequence=[_lut()]),
    "MONOCHROME1": lambda: dicom(4095 - VALUES, 12, PhotometricInterpretation="MONOCHROME1"),
    "inverted by its presentation LUT": lambda: dicom(VALUES, 12, PresentationLUTShape="INVERSE"),
    "signed DICOM": lambda: dicom(VALUES - 2048, 12),
    "signed JPEG 2000": lambda: dicom(VALUES - 2048, 12, compress=JPEG2000Lossless),
    "signed RLE": lambda: dicom(VALUES - 2048, 12, compress=RLELossless),
    "signed JPEG-LS": lambda: dicom(VALUES - 2048, 12, compress=JPEGLSLossless),
    "DICOM with padding": lambda: dicom(np.where(VALUES < 300, 0, VALUES), 12, PixelPaddingValue=0),
    "DICOM of long pixels": lambda: dicom(VALUES, 12, PixelAspectRatio=["2", "1"]),
    "long PNG": lambda: png(np.tile(GRAY, (1, 4))),
    "JPEG in DICOM": lambda: dicom(GRAY, 8, compress=JPEGBaseline8Bit),
    "JPEG 2000 of 8 bits": lambda: dicom(GRAY, 8, compress=JPEG2000Lossless),
    "DICOM without a view, with burned-in text": lambda: dicom(
        VALUES, 12, ViewPosition=None, Modality=None, BurnedInAnnotation="YES"
    ),
    **{name: lambda how=how: dicom(VALUES, 12, **how) for name, how in SYNTAXES.items()},  # type: ignore[misc]
}


@pytest.mark.parametrize("name", FILES)
def test_pixels_notes_and_warnings_equal_those_of_python(name: str, echo_page: Page) -> None:
    data = FILES[name]()
    expected = read_radiograph(data)
    found = read_in(echo_page, data)
    assert found == Read(digest_of(expected.pixels), list(expected.notes), list(expected.warnings), None, False)


def test_real_radiographs_are_read_as_in_python(echo_page: Page, real_data: Path) -> None:
    files = [path.read_bytes() for path in sorted((real_data / "nih-sample").rglob("*.png"))[:5]]
    for data, found in zip(files, read_all_in(echo_page, files), strict=True):
        assert found.pixels == digest_of(read_radiograph(data).pixels)


UNSUITABLE: dict[str, dict[str, Any]] = {
    "its view is lateral": {"ViewPosition": "LL"},
    "its body part is not the chest": {"BodyPartExamined": "KNEE"},
    "its modality is not CR or DX, but CT": {"Modality": "CT"},
    "it is raw data of the detector (FOR PROCESSING), not an image for presentation": {
        "PresentationIntentType": "FOR PROCESSING"
    },
}


@pytest.mark.parametrize("reason", UNSUITABLE)
def test_other_images_are_refused_with_the_reason_or_accepted_on_demand(reason: str, echo_page: Page) -> None:
    data = dicom(VALUES, 12, **UNSUITABLE[reason])
    with pytest.raises(ValueError) as refused:
        read_radiograph(data)
    assert str(refused.value) == reason
    found = read_in(echo_page, data)
    assert found.failed == f"PageError: This DICOM file is not read: {reason}."
    assert found.anyViewHelps
    accepted = read_in(echo_page, data, any_view=True)
    assert accepted.pixels == digest_of(read_radiograph(data, any_view=True).pixels)
    assert accepted.warnings == [reason, "only 83×61 pixels"]


def test_several_images_are_refused_and_the_first_is_read_on_demand(echo_page: Page) -> None:
    one = VALUES.astype(np.uint16).tobytes()
    data = dicom(VALUES, 12, NumberOfFrames=2, PixelData=one + bytes(len(one)))
    assert "multi-frame" in str(read_in(echo_page, data).failed)
    assert read_in(echo_page, data, any_view=True).pixels == digest_of(read_radiograph(data, any_view=True).pixels)


def test_damaged_files_end_in_a_sentence(echo_page: Page) -> None:
    for data in (
        png(GRAY)[:-20],
        jpeg(GRAY)[:-80],
        dicom(VALUES, 12)[:700],
        b"%PDF-1.7 Jane Doe",
        b"",
        GRAY.tobytes(),
    ):
        with pytest.raises(ValueError):
            read_radiograph(data)
        found = read_in(echo_page, data)
        assert found.failed
        assert found.failed.startswith("PageError: ") and found.failed.endswith(".")
        assert not found.anyViewHelps


def test_an_image_that_would_fill_the_memory_is_refused(echo_page: Page) -> None:
    header = (60_000).to_bytes(4) * 2 + bytes((8, 0, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")
    assert read_in(echo_page, data).failed == "PageError: The image has 60000×60000 pixels, more than 100,000,000."


def test_mutated_files_end_in_a_sentence_without_the_patient(echo_page: Page) -> None:
    random = np.random.default_rng(7)
    originals = [FILES[name]() for name in ("gray PNG", "gray JPEG", "DICOM with a window", *SYNTAXES)]
    mutants = []
    for number in range(60):
        data = bytearray(originals[number % len(originals)])
        for at in random.integers(0, len(data), random.integers(1, 12)):
            data[at] = random.integers(0, 256)
        mutants.append(bytes(data[: random.integers(1, len(data)) if number % 4 == 0 else None]))
    for found in read_all_in(echo_page, mutants):
        assert found.pixels is not None or str(found.failed).startswith("PageError: ")
        told = f"{found.failed} {found.notes} {found.warnings}"
        assert not [value for value in PATIENT.values() if value in told]
