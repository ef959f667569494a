"""Images that are replaced under their names: an interrupted build never mixes old and new ones."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chexvision.errors import ChexError
from chexvision.files.archives import read_members
from chexvision.files.stamps import is_stamp_of
from chexvision.images.npz_images import ImageArray
from chexvision.images.sources import Found, find_images, read_images
from chexvision.shards.build import Stopped, build_shards
from chexvision.shards.planned.ledger import FINISHED, Ledger
from tests.shards.conftest import Release, options, png, tree

CHOSEN = options(shard_bytes=50_000)
KINDS = ["folder", "zip", "tar.gz"]


class Watch:
    """A session that calls `act` when the images are listed, and stops the build after so many shards."""

    def __init__(self, act: Callable[[], object] = bool, stop_after: int = 10**9) -> None:
        self.made = 0
        self._act = act
        self._stop_after = stop_after

    def should_stop(self) -> bool:
        return self.made >= self._stop_after

    def begins(self, images: int, ledger: Ledger) -> None:
        self._act()

    def finished(self, ledger: Ledger) -> None:
        self.made += 1


def place_of(release: Release, kind: str) -> Path:
    """The images of a release in a folder or an archive."""
    return release.root if kind == "folder" else release.as_archive(release.root.parent / f"images.{kind}")


def build(release: Release, place: Path, out: Path, watch: Watch | None = None) -> dict[str, bytes]:
    build_shards([place], release.metadata, out, CHOSEN, watch)
    return tree(out)


def interrupted(release: Release, place: Path, out: Path) -> None:
    with pytest.raises(Stopped):
        build(release, place, out, Watch(stop_after=4))


@pytest.mark.parametrize("kind", KINDS)
def test_a_continued_build_makes_the_shards_of_replaced_images_again(
    release: Release, tmp_path: Path, kind: str
) -> None:
    place = place_of(release, kind)
    old = build(release, place, tmp_path / "old")
    interrupted(release, place, tmp_path / "out")
    replaced = release.names[0]
    release.put(replaced, png(1000))
    place = place_of(release, kind)
    fresh = build(release, place, tmp_path / "fresh")
    kept = {path.stem for path in (tmp_path / "out.partial" / FINISHED).iterdir()}
    watch = Watch()
    assert build(release, place, tmp_path / "out", watch) == fresh
    changed = [path for path in fresh if path.endswith(".parquet") and fresh[path] != old[path]]
    assert len(changed) == 1 and Path(changed[0]).stem in kept
    shards = sum(path.endswith(".parquet") for path in fresh)
    # A tar archive has one stamp for all images in it.
    assert watch.made == (shards if kind == "tar.gz" else shards - len(kept) + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_continued_build_keeps_the_shards_of_the_same_images(release: Release, tmp_path: Path, kind: str) -> None:
    place = place_of(release, kind)
    interrupted(release, place, tmp_path / "out")
    moved = shutil.move(place, tmp_path / f"moved.{kind}")
    watch = Watch()
    assert build(release, Path(moved), tmp_path / "out", watch) == build(release, Path(moved), tmp_path / "fresh")
    assert watch.made == sum(path.endswith(".parquet") for path in tree(tmp_path / "fresh")) - 4


@pytest.mark.parametrize("kind", ["folder", "tar.gz"])
def test_images_that_are_mounted_again_keep_their_shards(release: Release, tmp_path: Path, kind: str) -> None:
    place, chosen = place_of(release, kind), replace(CHOSEN, ignore_times=True)
    with pytest.raises(Stopped):
        build_shards([place], release.metadata, tmp_path / "out", chosen, Watch(stop_after=4))
    for path in (place, *place.rglob("*.png")):
        os.utime(path, ns=(0, 10**18))
    watch = Watch()
    build_shards([place], release.metadata, tmp_path / "out", chosen, watch)
    assert tree(tmp_path / "out") == build(release, place, tmp_path / "fresh")
    assert watch.made == sum(path.endswith(".parquet") for path in tree(tmp_path / "fresh")) - 4


def test_without_times_an_image_of_another_size_is_noticed(release: Release, tmp_path: Path) -> None:
    chosen = replace(CHOSEN, ignore_times=True)
    first = release.path(release.names[0])
    with pytest.raises(Stopped):
        build_shards([release.root], release.metadata, tmp_path / "out", chosen, Watch(stop_after=4))
    first.write_bytes(png(1000) + b"\0")

    def change() -> None:
        first.write_bytes(png(1000) + b"\0\0")

    with pytest.raises(ChexError, match="was changed, moved or removed after it was listed"):
        build_shards([release.root], release.metadata, tmp_path / "out", chosen, Watch(change))


def test_times_and_places_of_files_change_no_byte(release: Release, tmp_path: Path) -> None:
    first = build(release, release.root, tmp_path / "first")
    copied = tmp_path / "elsewhere"
    shutil.copytree(release.root, copied, copy_function=shutil.copyfile)
    for path in copied.rglob("*.png"):
        os.utime(path, ns=(0, 10**18))
    assert build(release, copied, tmp_path / "second") == first


@pytest.mark.parametrize("kind", [*KINDS, "removed"])
def test_an_image_that_changes_while_the_build_runs_ends_it(release: Release, tmp_path: Path, kind: str) -> None:
    place = place_of(release, "folder" if kind == "removed" else kind)

    def change() -> None:
        release.put(release.names[0], png(1000))
        if kind == "removed":
            release.path(release.names[0]).unlink()
        else:
            place_of(release, kind)

    with pytest.raises(ChexError, match="was changed, moved or removed after it was listed") as raised:
        build(release, place, tmp_path / "out", Watch(change))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()
    release.put(release.names[0], png(1000))
    place = place_of(release, "folder" if kind == "removed" else kind)
    assert build(release, place, tmp_path / "out", Watch()) == build(release, place, tmp_path / "fresh")


def test_a_tar_that_grows_while_it_is_read_is_an_error(release: Release, tmp_path: Path) -> None:
    place = place_of(release, "tar.gz")
    stamps = {found.member: found.stamp for found in find_images([place]).images}
    members = read_members(place, stamps, 10**6)
    next(members)
    with place.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ChexError, match="was changed"):
        next(members)


def test_a_file_that_is_written_while_it_is_read_is_an_error(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, read), *_ = read_images(list(find_images([release.root]).images))
    opened = Path.open

    def touched(path: Path, *words: object, **named: object) -> object:
        file = opened(path, *words, **named)  # type: ignore[call-overload]
        os.utime(path, ns=(0, 0))
        return file

    monkeypatch.setattr(Path, "open", touched)
    with pytest.raises(ChexError, match=f"{first.name} was changed"):
        read()


def test_arrays_that_are_replaced_meanwhile_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    np.savez(path, images=np.zeros((3, 8, 8), np.uint8))
    array = ImageArray(path, "images")
    found = [Found(f"{row}.png", array, str(row), array.stamp) for row in range(3)]
    assert len(list(array.read(found))) == 3
    np.savez(path, images=np.ones((3, 8, 8), np.uint8))
    with pytest.raises(ChexError, match=r"arrays\.npz was changed"):
        next(array.read(found))


@pytest.mark.parametrize(
    "note",
    [
        'ETag "5d41402abc4b2a76b9719d911017c592"',  # of S3: MD5
        "md5Hash XUFAKrxLKna5cZ2REBfFkg==",
        "blob_id b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0",  # git hash-object
        "blob_id d1ca116d6733584c13cb8bb50b21d5b5b81ee28f",  # git hash-object of its LFS pointer
    ],
)
def test_stamps_of_stores_that_are_hashes_tell_the_bytes(note: str) -> None:
    assert is_stamp_of(b"hello", f"5 {note}")
    assert not is_stamp_of(b"hellO", f"5 {note}")
    assert not is_stamp_of(b"hello", f"6 {note}")


@pytest.mark.parametrize("stamp", ['5 ETag "5d41402abc4b2a76b9719d911017c592-2"', "5 mtime 2026-01-01", "5 ", ""])
def test_other_stamps_tell_nothing_of_the_bytes(stamp: str) -> None:
    assert not is_stamp_of(b"hello", stamp)
