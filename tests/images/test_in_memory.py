"""Arrays, tensors and PIL images as radiographs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from chexvision.errors import UsageError
from chexvision.images.reading import as_radiograph

GREY = np.random.default_rng(3).integers(0, 256, (37, 52), dtype=np.uint8)
GREY[0] = np.arange(52) * 5
COLOR = np.random.default_rng(4).integers(0, 256, (37, 52, 3), dtype=np.uint8)
FROM_COLOR = cv2.cvtColor(COLOR, cv2.COLOR_RGB2GRAY)


class Tensor:
    """What torch's tensors are to those who do not import torch."""

    def __init__(self, values: Any) -> None:
        self.values, self.dtype = values, values.dtype

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> Any:
        if self.dtype == object:
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.values


@pytest.mark.parametrize(
    "image",
    [
        GREY,
        GREY[:, :, None],
        np.stack([GREY] * 3, axis=2),
        np.stack([GREY] * 4, axis=2),
        GREY.astype(np.uint16),
        np.round(GREY * (4095 / 255)).astype(np.uint16),
        np.round(GREY * (4095 / 255)).astype(">u2"),
        GREY.astype(np.uint16) * 257,
        GREY.astype(np.float64) / 255,
        (GREY / 255).astype(np.float32),
        Tensor(GREY),
        GREY[::-1][::-1],
        np.asfortranarray(GREY),
    ],
    ids=lambda image: f"{type(image).__name__} {image.dtype}",
)
def test_arrays(image: Any) -> None:
    assert np.array_equal(as_radiograph(image).pixels, GREY)


def test_arrays_in_color_are_rgb() -> None:
    assert np.array_equal(as_radiograph(COLOR).pixels, FROM_COLOR)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 40, 50), np.uint8), r"uint8\[3, 40, 50\] has its channels first; move them last"),
        (np.zeros((1, 40, 50), np.float32), "has its channels first"),
        (np.zeros((2, 40, 50, 3), np.uint8), "is a batch"),
        (np.zeros((40, 50, 2), np.uint8), "has 2 channels"),
        (np.zeros(40, np.uint8), "is not an image"),
        (np.zeros((), np.uint8), "is not an image"),
        (np.zeros((0, 50), np.uint8), "has no pixels"),
        (np.zeros((40, 50), bool), "a mask has no gray values"),
        (np.zeros((40, 50), np.int64), r"astype\(np.uint8\)"),
        (np.zeros((40, 50), complex), "values of type complex128"),
        (np.array([["a"]]), "values of type"),
        (np.full((40, 50), np.nan), "not finite"),
        (np.full((40, 50), 255.0), r"from 255 to 255; floating-point numbers are in \[0, 1\]"),
        (np.full((40, 50), -0.1), "from -0.1 to -0.1"),
        (np.zeros((20_000, 20_000), np.uint8), "20000×20000 pixels"),
        (Tensor(np.zeros((40, 50), object)), "a tensor of object has no array"),
        (None, "NoneType is not an image"),
        ([1, 2], "list is not an image"),
        (b"", "not a readable PNG, JPEG or DICOM file"),
        ("nowhere.png", "nowhere.png: No such file"),
        (Path("/"), "/: a folder|/: Invalid argument"),
    ],
)
def test_what_is_not_an_image_is_refused_in_words(image: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        as_radiograph(image)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "I", "F", "I;16", "I;16B", "CMYK", "YCbCr", "RGBX"])
def test_modes_of_pil(mode: str) -> None:
    image = Image.fromarray(GREY)
    if mode.startswith("I;16"):
        image = Image.fromarray(GREY.astype(np.uint16) * 257)
        image = image.convert("I").convert("I;16B") if mode == "I;16B" else image
    elif mode == "F":
        image = Image.fromarray((GREY / 255).astype(np.float32))
    else:
        image = image.convert(mode)
    assert image.mode == mode
    assert np.abs(as_radiograph(image).pixels.astype(int) - GREY).max() <= (1 if mode == "YCbCr" else 0)


def test_a_one_bit_pil_image() -> None:
    assert np.array_equal(as_radiograph(Image.fromarray(GREY > 99)).pixels, np.where(GREY > 99, 255, 0))


def test_a_pil_image_of_a_file_is_that_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOR).save(tmp_path / "a.png", exif=exif)
    opened = as_radiograph(Image.open(tmp_path / "a.png"))
    for other in (tmp_path / "a.png", str(tmp_path / "a.png"), (tmp_path / "a.png").read_bytes()):
        found = as_radiograph(other)
        assert np.array_equal(found.pixels, opened.pixels) and found.notes == opened.notes


@pytest.mark.parametrize("mode", ["I", "F"])
def test_a_pil_image_with_other_values(mode: str) -> None:
    with pytest.raises(UsageError, match="values"):
        as_radiograph(Image.fromarray(np.full((4, 4), 70_000, np.int32)).convert(mode))


def test_a_truncated_file_that_pil_opened() -> None:
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "PNG")
    with pytest.raises(UsageError, match="its file is damaged"):
        as_radiograph(Image.open(io.BytesIO(file.getvalue()[:-200])))
