"""The same radiograph in every kind of file has the same pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.uid import JPEG2000Lossless, RLELossless

from chexvision.images.reading import as_radiograph, read_radiograph
from tests.images.dicoms import data_of, dataset, dicom, windowed
from tests.shards.conftest import SHARED

SAMPLE = SHARED / "nih-sample" / "images_001" / "images"


@pytest.fixture(params=range(4))
def original(request: pytest.FixtureRequest) -> Path:
    files = sorted(SAMPLE.glob("*.png"))
    if not files:
        pytest.skip(f"the sample of radiographs is not at {SAMPLE}")
    number: int = request.param
    return files[number * len(files) // 4]


def encoded(kind: str, pixels: NDArray[Any], *options: int) -> bytes:
    return cv2.imencode(kind, pixels, options)[1].tobytes()


def test_a_radiograph_in_every_lossless_file(original: Path) -> None:
    grey = as_radiograph(original).pixels
    rgba = np.dstack([grey, grey, grey, np.full_like(grey, 128)])
    compressed = dataset(grey, bits=8)
    compressed.compress(JPEG2000Lossless, generate_instance_uid=False)
    packed = dataset(np.round(grey * (4095 / 255)).astype(np.uint16), WindowCenter=2048, WindowWidth=4096)
    packed.compress(RLELossless, generate_instance_uid=False)
    files = {
        "PNG": encoded(".png", grey),
        "16-bit PNG": encoded(".png", grey.astype(np.uint16) * 257),
        "12-bit PNG": encoded(".png", np.round(grey * (4095 / 255)).astype(np.uint16)),
        "RGBA": encoded(".png", rgba),
        "MONOCHROME2": windowed(grey),
        "MONOCHROME1": windowed(grey, inverted=True),
        "8-bit DICOM": dicom(grey, bits=8),
        "JPEG 2000 DICOM": data_of(compressed),
        "RLE DICOM": data_of(packed),
    }
    for kind, data in files.items():
        assert np.array_equal(read_radiograph(data).pixels, grey), kind
    assert np.array_equal(as_radiograph(grey).pixels, grey)


def test_a_jpeg_differs_little(original: Path) -> None:
    grey = as_radiograph(original).pixels
    found = read_radiograph(encoded(".jpg", grey, cv2.IMWRITE_JPEG_QUALITY, 95)).pixels
    difference = np.abs(found.astype(int) - grey)
    assert difference.mean() < 1.5 and difference.max() < 20
