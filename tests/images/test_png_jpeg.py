"""PNG and JPEG files as 8-bit gray: depths, colors, orientation, damage."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from chexvision.images.radiograph import decode_grey, decode_image
from chexvision.images.reading import as_radiograph, read_radiograph

GREY = np.random.default_rng(3).integers(0, 256, (37, 52), dtype=np.uint8)
GREY[0] = np.arange(52) * 5


def png(pixels: NDArray[Any]) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_chunk(data: bytes, kind: bytes, content: bytes) -> bytes:
    """A PNG with a chunk after its header."""
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return data[:33] + chunk + data[33:]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_16_bit_files_have_the_range_of_the_fewest_bits(bits: int) -> None:
    pixels, notes, _ = decode_image(png(np.round(GREY * (((1 << bits) - 1) / 255)).astype(np.uint16)))
    assert np.array_equal(pixels, GREY)
    expected = f"{bits}-bit values in 16 bits: the fewest that hold its largest value"
    assert notes == (expected if bits < 16 else "16-bit values",)


@pytest.mark.parametrize("bits", [10, 12, 13])
@pytest.mark.parametrize("where", ["highest", "replicated", "lowest"])
def test_16_bit_files_have_the_range_that_they_state(bits: int, where: str) -> None:
    dark = GREY // 4  # the largest value does not tell the depth
    values: NDArray[Any] = np.round(dark * (((1 << bits) - 1) / 255)).astype(np.uint16)
    if where != "lowest":
        values = (values << (16 - bits)) | (values >> (2 * bits - 16) if where == "replicated" else 0)
    pixels, notes, _ = decode_image(with_chunk(png(values), b"sBIT", bytes([bits])))
    assert np.array_equal(pixels, dark)
    assert notes == (f"{bits}-bit values in 16 bits: as the file states",)


def test_an_alpha_channel_does_not_tell_the_range() -> None:
    color = np.full((37, 52, 4), 65535, np.uint16)
    color[:, :, :3] = np.round(GREY * (4095 / 255)).astype(np.uint16)[:, :, None]
    assert np.array_equal(decode_grey(png(color)), GREY)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_modes_of_png(mode: str) -> None:
    assert np.array_equal(decode_grey(saved(Image.fromarray(GREY).convert(mode), "PNG")), GREY)


def test_a_transparent_palette() -> None:
    image = Image.fromarray(GREY).convert("P")
    assert np.array_equal(decode_grey(saved(image, "PNG", transparency=0)), GREY)


def test_one_bit() -> None:
    image = Image.fromarray(GREY > 100)
    assert np.array_equal(decode_grey(saved(image, "PNG")), np.where(GREY > 100, 255, 0))


def test_interlaced() -> None:
    """Adam7, which PIL does not write: the passes of a gray image, each unfiltered."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [b"\0" + row.tobytes() for y, x, dy, dx in passes for row in GREY[y::dy, x::dx]]
    head = struct.pack(">IIBBBBB", 52, 37, 8, 0, 0, 0, 1)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", head), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")):
        data += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    assert np.array_equal(decode_grey(data), GREY)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_exif_orientation(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(GREY), kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))
    pixels, notes, _ = decode_image(data)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).max() <= 1
    assert notes == (("turned as its EXIF orientation says",) if orientation > 1 else ())


def test_color_profiles_do_not_change_gray_values() -> None:
    assert np.array_equal(decode_grey(saved(Image.fromarray(GREY), "PNG", icc_profile=b"not a profile")), GREY)


def test_a_cmyk_jpeg() -> None:
    smooth = cv2.GaussianBlur(GREY, (9, 9), 4)
    data = saved(Image.fromarray(smooth).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(decode_grey(data).astype(int) - smooth).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_text_in_a_file_is_not_repeated(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = saved(Image.fromarray(GREY), kind)
    if kind == "PNG":
        for chunk in (b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"pHYs", b"sRGB", b"tIME", b"cHRM"):
            data = with_chunk(data, chunk, b"Jane Doe\0" + b"19700101" * 4)
    else:
        comment = b"\xff\xfe\0\x12Jane Doe19700101" + b"\xff\xe1\0\x18Exif\0\0II*\0Jane Doe19700101"[:26]
        data = data[:2] + comment + data[2:]
    read_radiograph(data)
    said = capfd.readouterr()
    assert said.out == "" and "Jane" not in said.err and "1970" not in said.err


@pytest.mark.parametrize(
    ("size", "color", "bits"), [((30_000, 30_000), 0, 8), ((9_000, 9_000), 6, 16), ((0, 10), 0, 8)]
)
def test_sizes_that_would_fill_the_memory(size: tuple[int, int], color: int, bits: int) -> None:
    data = png(GREY)
    head = b"IHDR" + struct.pack(">IIBBBBB", *size, bits, color, 0, 0, 0)
    with pytest.raises(ValueError, match="pixels"):
        decode_grey(data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:])


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    data = saved(Image.fromarray(GREY), "JPEG", progressive=True)
    with pytest.raises(ValueError, match="more than 100 scans"):
        decode_grey(data[:-2] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" * 200 + data[-2:])


@pytest.mark.parametrize(
    ("shape", "warnings"),
    [
        ((64, 64), ()),
        ((100, 200), ()),
        ((63, 70), ("only 70×63 pixels",)),
        ((100, 201), ("201×100 pixels: not the shape of a chest radiograph",)),
        ((201, 100), ("100×201 pixels: not the shape of a chest radiograph",)),
    ],
)
def test_sizes_and_shapes_that_are_warned_of(shape: tuple[int, int], warnings: tuple[str, ...]) -> None:
    assert read_radiograph(png(np.zeros(shape, np.uint8))).warnings == warnings


@pytest.mark.parametrize(("spread", "rows", "warned"), [(17, 1, False), (17, 2, True), (16, 100, False)])
def test_colors_are_warned_of(spread: int, rows: int, warned: bool) -> None:
    color = np.full((100, 100, 3), 50, np.uint8)
    color[:rows, :, 1] += spread
    assert read_radiograph(png(color)).warnings == (("a color image, not a radiograph",) if warned else ())
    assert as_radiograph(color).warnings == read_radiograph(png(color)).warnings
