"""DICOM files in folders and archives, by their ending or by their content."""

from __future__ import annotations

import errno
import os
import tarfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from chexvision.errors import ChexError
from chexvision.files.archives import Read
from chexvision.images.sources import Found, find_images, is_image_file, is_image_name, read_images
from tests.images.dicoms import dicom

DATA = dicom(np.zeros((8, 8), np.uint8), bits=8)
NAMES = {
    "a.dcm": DATA,
    "b.DICOM": DATA,
    "c.png": b"",
    "IM000001": DATA,
    "1.2.840.113619.2.55": DATA,
    "WITHOUT_PREAMBLE": DATA[132:],
    "DICOMDIR": DATA,
    "README": b"not an image",
    "short": b"",
    "notes.txt": DATA,
    ".hidden.dcm": DATA,
    ".hidden": DATA,
}
IMAGES = ["1.2.840.113619.2.55", "IM000001", "WITHOUT_PREAMBLE", "a.dcm", "b.DICOM", "c.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "study"
    (made / "series").mkdir(parents=True)
    for name, data in NAMES.items():
        (made / "series" / name).write_bytes(data)
    return made


def _packed(folder: Path, kind: str, into: Path) -> Path:
    place = folder if kind == "folder" else into / f"study.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(place, "w") as archive:
            for path in sorted((folder / "series").iterdir()):
                archive.write(path, f"series/{path.name}")
    elif kind == "tar.gz":
        with tarfile.open(place, "w:gz") as tar:
            tar.add(folder, "study")
    return place


@pytest.mark.parametrize("kind", ["folder", "zip", "tar.gz"])
def test_images_are_found_and_read(kind: str, folder: Path, tmp_path: Path) -> None:
    index = find_images([_packed(folder, kind, tmp_path)])
    assert sorted(found.name for found in index.images) == IMAGES
    assert {found.name: load() for found, load in read_images(list(index.images))} == {n: NAMES[n] for n in IMAGES}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar.gz"])
def test_another_process_reads_any_images_in_any_order(kind: str, folder: Path, tmp_path: Path) -> None:
    chosen = list(find_images([_packed(folder, kind, tmp_path)]).images[::-2])
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        read = pool.submit(_read_all, chosen).result()
    assert read == {found: NAMES[found.name] for found in chosen}
    assert len(read) == len(IMAGES) // 2


def _read_all(images: list[Found]) -> dict[Found, bytes]:
    return {found: load() for found, load in read_images(images)}


@dataclass(frozen=True)
class _Elsewhere:
    """A container of another kind."""

    place: str

    def read(self, images: list[Found]) -> Iterator[tuple[Found, Read]]:
        for found in images:
            yield found, partial(bytes, f"{self.place}:{found.member}", "ascii")

    def __str__(self) -> str:
        return self.place


def test_containers_of_other_kinds_read_their_own_images(folder: Path) -> None:
    here = find_images([folder]).images
    there = [Found(name, _Elsewhere("s3://bucket"), name) for name in ("x.png", "y.png")]
    read = {found.path: load() for found, load in read_images([there[0], *here, there[1]])}
    assert list(read)[:2] == ["s3://bucket/x.png", "s3://bucket/y.png"]
    assert read["s3://bucket/y.png"] == b"s3://bucket:y.png"
    assert len(read) == 2 + len(IMAGES)


def test_a_tar_that_was_changed_is_an_error(folder: Path, tmp_path: Path) -> None:
    place = _packed(folder, "tar.gz", tmp_path)
    images = list(find_images([place]).images)
    (folder / "series" / "b.DICOM").unlink()
    _packed(folder, "tar.gz", tmp_path)
    with pytest.raises(ChexError, match=r"study.tar.gz was changed, moved or removed after it was listed"):
        list(read_images(images))


def test_files_are_recognized(folder: Path) -> None:
    assert sorted(path.name for path in (folder / "series").iterdir() if is_image_file(path)) == IMAGES
    assert [name for name in sorted(NAMES) if is_image_name(name)] == ["a.dcm", "b.DICOM", "c.png"]


def test_a_fifo_without_an_ending_is_not_opened(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert not is_image_file(folder / "pipe")
    assert len(find_images([folder]).images) == len(IMAGES)


def test_a_damaged_member_of_a_zip_leaves_the_others_readable(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "study.zip"
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "series" / "IM000001", "IM000001")
        archive.write(folder / "series" / "a.dcm", "a.dcm")
    damaged = bytearray(place.read_bytes())
    damaged[30 + len("IM000001") : 60 + len("IM000001")] = b"\xff" * 30  # the beginning of the first member
    place.write_bytes(damaged)
    images = dict(read_images(list(find_images([place]).images)))
    reads = {found.name: load for found, load in images.items()}
    assert reads["a.dcm"]() == DATA
    with pytest.raises(ValueError, match=r"cannot be read from study\.zip"):
        reads["IM000001"]()


def test_a_file_that_may_not_be_read_is_not_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root every file can be opened."""
    opened = Path.open

    def refuse(path: Path, mode: str = "r") -> IO[bytes]:
        if path.name == "IM000001":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, mode)

    monkeypatch.setattr(Path, "open", refuse)
    assert is_image_file(folder / "series" / "IM000001")
