"""`shards build` on folders and archives that contain other files than images."""

from __future__ import annotations

import io
import os
import socket
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from chexvision.images import sources
from tests.hostile.conftest import Refuses
from tests.shards.conftest import Release, png


def words(nih: Release, *images: Path) -> list[object]:
    places = [word for place in images or (nih.root,) for word in ("--images", place)]
    return ["shards", "build", *places, "--metadata", nih.metadata, "--out", "out", "--size", "32"]


def huge_png() -> bytes:
    """A PNG of 30,000² pixels in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 10_000_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    # A socket's name is short; it is made here and moved.
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("s")
    Path("s").rename(path)


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere.png")


def a_link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def a_huge_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def a_png_bomb(path: Path) -> None:
    path.write_bytes(huge_png())


def a_jpeg_bomb(path: Path) -> None:
    data = bytearray(cv2.imencode(".jpg", np.zeros((64, 64), np.uint8))[1].tobytes())
    frame = data.find(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 32_000, 32_000)
    path.write_bytes(data)


def a_tiff(path: Path) -> None:
    path.write_bytes(cv2.imencode(".tiff", np.zeros((64, 64), np.uint8))[1].tobytes())


IN_A_FOLDER: list[tuple[Callable[[Path], None], str]] = [
    (a_fifo, "a FIFO, not a regular file"),
    (a_socket, "a socket, not a regular file"),
    (a_device, "a device, not a regular file"),
    (a_link_to_nothing, "No such file"),
    (a_link_to_itself, "symbolic links"),
    (a_huge_file, "more than"),
    (a_png_bomb, "30000×30000 pixels"),
    (a_jpeg_bomb, "32000×32000 pixels"),
    (a_tiff, "not a readable PNG, JPEG or DICOM file"),
]


@pytest.mark.parametrize(("make", "message"), IN_A_FOLDER)
def test_a_file_that_is_not_an_image_is_a_bad_image(
    make: Callable[[Path], None], message: str, nih: Release, refuses: Refuses
) -> None:
    path = nih.path(nih.names[3])
    path.unlink()
    make(path)
    line = refuses(*words(nih), codes=(1,))
    assert f"{nih.names[3]}: " in line and message in line


def test_a_folder_named_like_an_image_is_a_bad_image(nih: Release, refuses: Refuses) -> None:
    path = nih.path(nih.names[3])
    path.unlink()
    path.mkdir()
    assert "1 of 40 images are bad" in refuses(*words(nih), codes=(1,))


def test_a_name_that_is_not_text_is_a_bad_image(nih: Release, refuses: Refuses) -> None:
    folder = nih.path(nih.names[3]).parent
    (folder / os.fsdecode(b"\xff\x1b[31m.png")).write_bytes(png(1))
    assert "not in the metadata" in refuses(*words(nih), codes=(1,))


@pytest.mark.parametrize("name", ["more.zip", "more.tar.gz"])
def test_an_archive_that_is_a_fifo_is_refused(name: str, nih: Release, refuses: Refuses) -> None:
    os.mkfifo(nih.root / name)
    assert f"{name} cannot be read: a FIFO" in refuses(*words(nih))


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_links_and_paths_out_of_a_tar_are_not_followed(nih: Release, here: Path, refuses: Refuses) -> None:
    out, link = tarfile.TarInfo("../../outside.png"), tarfile.TarInfo(nih.names[1])
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    archive = tar_of(nih.root.parent / "a.tar.gz", (out, png(1)), (link, b""))
    assert "outside.png: unlabelled" in refuses(*words(nih, archive), codes=(1,))


def test_links_and_paths_out_of_a_zip_are_not_followed(nih: Release, refuses: Refuses) -> None:
    archive = nih.root.parent / "a.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("../../outside.png", png(1))
        link = zipfile.ZipInfo(nih.names[1])
        link.external_attr = 0o120777 << 16
        made.writestr(link, "/etc/passwd")
    assert "outside.png: unlabelled" in refuses(*words(nih, archive), codes=(1,))


def test_a_zip_bomb_is_a_bad_image(nih: Release, refuses: Refuses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LARGEST", 2**20)
    archive = nih.root.parent / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(nih.names[0], b"\0" * (2**20 + 1))
    assert "more than" in refuses(*words(nih, archive), codes=(1,))


def test_a_tar_bomb_is_a_bad_image(nih: Release, refuses: Refuses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LARGEST", 2**20)
    archive = tar_of(nih.root.parent / "a.tar.gz", (tarfile.TarInfo(nih.names[0]), b"\0" * (2**20 + 1)))
    assert "more than" in refuses(*words(nih, archive), codes=(1,))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.zip", b"PK\x03\x04 but no more"),
        ("a.tar.gz", b"\x1f\x8b\x08 but no more"),
        ("a.tar.gz", b"BZh9 but no more"),
        ("a.tar.gz", b"\xfd7zXZ\x00 but no more"),
        ("a.tar", b"\xff" * 2048),
        ("a.tar", b""),
    ],
)
def test_a_file_that_is_not_an_archive_is_named(name: str, data: bytes, nih: Release, refuses: Refuses) -> None:
    archive = nih.root.parent / name
    archive.write_bytes(data)
    assert f"{name} is damaged" in refuses(*words(nih, archive), codes=(1,))
