"""JPEG Lossless by its definition, and streams that are damaged."""

from __future__ import annotations

import numpy as np
import pytest

from chexvision.images import jpeg_lossless as module
from chexvision.images.jpeg_lossless import decode_lossless
from tests.images.seeds import jpeg_lossless

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("bits", [2, 8, 12, 16])
def test_every_predictor(predictor: int, bits: int) -> None:
    values = RNG.integers(0, 1 << bits, (13, 17), dtype=np.uint16)
    assert np.array_equal(decode_lossless(jpeg_lossless(values, predictor=predictor, bits=bits)), values)


def test_the_largest_difference_has_no_further_bits() -> None:
    values = np.array([[32768, 0, 32768, 0]], np.uint16)
    assert np.array_equal(decode_lossless(jpeg_lossless(values, bits=16)), values)


def test_a_point_transform() -> None:
    values = RNG.integers(0, 4096, (9, 8), dtype=np.uint16)
    assert np.array_equal(decode_lossless(jpeg_lossless(values, shift=3)), values & ~np.uint16(7))


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (30, 1), (40, 50)])
def test_sizes_and_blocks(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    values = RNG.integers(0, 4096, size, dtype=np.uint16)
    data = jpeg_lossless(values)
    for block in (1, 2, 7, 64):
        monkeypatch.setattr(module, "_BLOCK", block)
        assert np.array_equal(decode_lossless(data), values), block


@pytest.mark.parametrize("cut", [10, 30, 70, 200])
def test_a_truncated_stream(cut: int) -> None:
    with pytest.raises(ValueError, match="damaged JPEG"):
        decode_lossless(jpeg_lossless(RNG.integers(0, 4096, (20, 20), dtype=np.uint16))[:cut])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\xff\xc3", b"\xff\xc0"),  # not lossless
        (b"\xff\xc4", b"\xff\xfe"),  # no codes
        (b"\0\0\0\0\x11\0", b"\0\0\0\0\x31\0"),  # more codes than bits
        (b"\0\0\0\0\x11\0", b"\0\0\0\0\x01\0"),  # codes that the scan does not keep to
    ],
)
def test_other_streams(old: bytes, new: bytes) -> None:
    data = jpeg_lossless(RNG.integers(0, 4096, (20, 20), dtype=np.uint16))
    assert old in data
    with pytest.raises(ValueError, match="damaged JPEG"):
        decode_lossless(data.replace(old, new, 1))
