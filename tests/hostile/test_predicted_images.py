"""Images of any content and name, given to a model."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tests.training.runs  # noqa: F401 - registers the backbone "tiny"
from chexvision.cli import main
from tests.hostile.conftest import Refuses


def tree(folder: Path) -> dict[str, Any]:
    """Everything below a folder: contents of files, and kinds of other entries."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        plain = path.is_file() and not path.is_symlink()
        found[str(path.relative_to(folder))] = path.read_bytes() if plain else path.lstat().st_mode
    return found


def _text(path: Path) -> None:
    path.write_text("not an image")


def _bomb(path: Path) -> None:
    """A PNG whose header promises 10^10 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))


def _truncate(path: Path) -> None:
    path.write_bytes((path.parent / "chest.png").read_bytes()[:-40])


IMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a folder": (Path.mkdir, "not a regular file"),
    "a pipe": (os.mkfifo, "a FIFO, not a regular file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "a dangling link": (lambda path: path.symlink_to("nowhere"), "No such file"),
    "an empty file": (Path.touch, "not a readable PNG, JPEG or DICOM file"),
    "a text": (_text, "not a readable PNG, JPEG or DICOM file"),
    "a truncated PNG": (_truncate, "truncated PNG"),
    "too many pixels": (_bomb, "more than 100,000,000"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_a_hostile_image_is_a_one_line_error(name: str, workspace: Path, refuses: Refuses) -> None:
    make, message = IMAGES[name]
    make(workspace / "bad.png")
    said = refuses("predict", "model", "chest.png", "bad.png")
    assert ("contains no PNG, JPEG or DICOM file" if name == "a folder" else message) in said
    assert message in refuses("explain", "model", "chest.png", "bad.png", "--out", "out")


@pytest.mark.parametrize("stem", ["[red]x[bold]", "a\x1b[2Jb", "two\nlines", "..", "a:b*c?", "\udcff", "é" * 120])
def test_any_image_name_becomes_a_safe_file_name_and_escaped_text(
    stem: str, workspace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image = workspace / f"{stem}.png"
    image.write_bytes((workspace / "chest.png").read_bytes())
    before = tree(workspace.parent)
    with pytest.raises(SystemExit) as ended:
        main(["predict", "model", str(image), "--explain", "out"])
    said = capfd.readouterr()
    assert ended.value.code == 0, said.err
    assert "\x1b" not in said.out + said.err
    if stem.startswith("[red]"):
        assert "[red]x[bold].png" in said.out
    made = tree(workspace.parent)
    assert {path: made[path] for path in before} == before
    written = sorted(made.keys() - before.keys())
    assert len(written) == 5
    assert all(path.startswith("here/out") for path in written)
    assert all(Path(path).name.isprintable() and not Path(path).name.startswith(".") for path in written)
    summary = json.loads((workspace / "out" / "explain.json").read_text())
    overlays = [one["overlay"] for image in summary["images"] for one in image["overlays"]]
    assert len(overlays) == 3 and all((workspace / "out" / name).is_file() for name in overlays)
