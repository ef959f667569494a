"""Damaged PNG, JPEG and DICOM files of every kind: an image or one sentence, in bounded time and memory."""

from __future__ import annotations

import resource
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chexvision.images.reading import Radiograph, read_radiograph
from tests.images.seeds import NAME, image_files

FILES = image_files()
WORDS = (
    b"\0\0",
    b"\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\xea\x60",
    b"\xff\xd8",
    b"\xff\x4f",
)

# A place is a share of the file: 0 to 1,000 of each 1,000 bytes.
places = st.integers(0, 1000)
edits = st.one_of(
    st.tuples(st.just("byte"), places, st.binary(min_size=1, max_size=1)),
    st.tuples(st.just("word"), places, st.sampled_from(WORDS)),
    st.tuples(st.just("cut"), places, st.integers(1, 80)),
    st.tuples(st.just("repeat"), places, st.integers(1, 300)),
    st.tuples(st.just("stop"), places, st.none()),
)


def mutated(data: bytes, changes: list[tuple[str, int, bytes | int | None]]) -> bytes:
    made = bytearray(data)
    for kind, place, value in changes:
        at = place * max(len(made) - 1, 0) // 1000
        if isinstance(value, bytes):
            made[at : at + len(value)] = value
        elif kind == "cut":
            del made[at : at + (value or 0)]
        elif kind == "repeat":
            made[at:at] = made[at : at + (value or 0)]
        else:
            del made[at:]
    return _with_checksums(made) if made.startswith(b"\x89PNG") else bytes(made)


def _with_checksums(made: bytearray) -> bytes:
    """With those of the chunks as they are now, else the decoder never sees a mutation."""
    at = 8
    while at + 12 <= len(made):
        stop = at + 8 + int.from_bytes(made[at : at + 4])
        if stop + 4 > len(made):
            break
        made[stop : stop + 4] = zlib.crc32(made[at + 4 : stop]).to_bytes(4)
        at = stop + 4
    return bytes(made)


@pytest.mark.parametrize("kind", FILES)
def test_the_files_can_be_read(kind: str) -> None:
    assert read_radiograph(FILES[kind]).pixels.size == 36 * 41


def test_mutated_files_end_in_an_image_or_a_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reached: set[str] = set()

    @settings(
        max_examples=1000,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.sampled_from(sorted(FILES)), st.lists(edits, min_size=1, max_size=6), st.booleans())
    def check(kind: str, changes: list[tuple[str, int, bytes | int | None]], any_view: bool) -> None:
        said: str | Radiograph
        try:
            said = read_radiograph(mutated(FILES[kind], changes), any_view=any_view)
        except ValueError as error:
            said = str(error)
        if isinstance(said, Radiograph):
            assert said.pixels.size and said.pixels.dtype == "uint8" and said.pixels.ndim == 2
            reached.add("image")
            said = " ".join((*said.notes, *said.warnings))
        reached.add(said)
        assert "\n" not in said and len(said) < 500
        assert not any(word in said for word in NAME.split())

    check()
    printed = capfd.readouterr()
    assert printed.out == ""
    assert not any(word in printed.err for word in NAME.split())  # libjpeg and libpng write to stderr
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 1e9
    assert "image" in reached and len(reached) > 12
