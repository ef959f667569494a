"""ChestMNIST: arrays in an .npz file, streamed and bounded."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chexvision.errors import ChexError, UsageError
from chexvision.images.radiograph import decode_grey
from chexvision.images.sources import Found, read_images
from chexvision.labels import NIH
from chexvision.releases.chestmnist import read_chestmnist
from chexvision.releases.release import Reading
from chexvision.shards.build import build_shards
from chexvision.shards.columns import folder_place
from chexvision.shards.verify import verify_shards
from chexvision.synthetic.layouts.chestmnist_layout import write_chestmnist
from chexvision.synthetic.layouts.films import plan_films
from tests.releases.built import OPTIONS

COUNTS = {"train": 6, "val": 2, "test": 3}


def _arrays(side: int = 28) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    made: dict[str, Any] = {}
    for split, count in COUNTS.items():
        made[f"{split}_images"] = rng.integers(0, 256, (count, side, side), np.uint8)
        made[f"{split}_labels"] = rng.integers(0, 2, (count, 14), np.uint8)
    return made


def _saved(folder: Path, arrays: dict[str, Any], name: str = "chestmnist.npz") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / name, **arrays)
    return folder


def test_shards_keep_pixels_labels_and_split(tmp_path: Path) -> None:
    arrays = _arrays()
    folder = _saved(tmp_path / "mnist", arrays)
    manifest = build_shards([folder], None, tmp_path / "out", OPTIONS(dataset="chestmnist", size=28))
    assert {name: counts.images for name, counts in manifest.splits.items()} == {
        "train": 6, "validation": 2, "test": 3,
    }  # fmt: skip
    assert manifest.label_space == NIH and manifest.source.metadata == "chestmnist.npz"
    assert manifest.dataset is not None and manifest.dataset.terms is not None
    assert manifest.dataset.terms.license == "cc-by-4.0" and not manifest.dataset.terms.credentialed
    assert all(check.ok for check in verify_shards(tmp_path / "out", sample=0, seed=0, workers=1))
    place = folder_place(tmp_path / "out")
    for shard, split in zip(manifest.shards, COUNTS, strict=True):
        _, table = place.read(shard.path, ["image", "labels", "filename"])
        rows = table.to_pylist()
        assert [row["filename"] for row in rows] == [f"chestmnist_{split}_{i:06d}.png" for i in range(COUNTS[split])]
        for row, pixels, labels in zip(rows, arrays[f"{split}_images"], arrays[f"{split}_labels"], strict=True):
            assert np.array_equal(decode_grey(row["image"]["bytes"]), pixels)
            assert NIH.values(row["labels"]) == tuple(map(float, labels))


def test_a_synthetic_release_is_read(tmp_path: Path) -> None:
    films = plan_films(24, 1)
    write_chestmnist(tmp_path, films, 64)
    release = read_chestmnist(Reading("chestmnist", (tmp_path / "chestmnist_64.npz",), size=64))
    frontal = [film for film in films if film.view != "L"]
    assert sorted(entry.labels for entry in release.entries.values()) == sorted(
        NIH.format(film.visit.findings) for film in frontal
    )


def test_a_larger_size_than_that_of_the_file_is_refused(tmp_path: Path) -> None:
    folder = _saved(tmp_path, _arrays())
    with pytest.raises(UsageError, match="of 28×28 pixels, which --size 64 would only enlarge; add --size 28"):
        read_chestmnist(Reading("chestmnist", (folder,), size=64))
    assert len(read_chestmnist(Reading("chestmnist", (folder,), size=28)).entries) == sum(COUNTS.values())


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_another_process_reads_any_rows_in_any_order(save: Callable[..., None], tmp_path: Path) -> None:
    arrays = _arrays(32)
    save(tmp_path / "chestmnist_64.npz", **arrays)
    images = list(read_chestmnist(Reading("chestmnist", (tmp_path,))).index.images)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        read = pool.submit(_read_all, images[::-2]).result()
    assert len(read) == 6
    for found, data in read.items():
        split = found.name.split("_")[1]
        assert np.array_equal(decode_grey(data), arrays[f"{split}_images"][int(found.member)])


def _read_all(images: list[Found]) -> dict[Found, bytes]:
    return {found: load() for found, load in read_images(images)}


def _changed(name: str, array: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        _saved(folder, _arrays() | {name: array})

    return change


def _member(name: str, data: bytes) -> Callable[[Path], object]:
    """Replace the bytes of a member."""

    def change(folder: Path) -> None:
        with zipfile.ZipFile(folder / "chestmnist.npz") as file:
            members = {one: file.read(one) for one in file.namelist()} | {name: data}
        with zipfile.ZipFile(folder / "chestmnist.npz", "w", zipfile.ZIP_DEFLATED) as file:
            for one, content in members.items():
                file.writestr(one, content)

    return change


def _npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _announced(shape: str) -> bytes:
    """uint8[2, 28, 28] that announces another shape; the head keeps its length."""
    new = f"{shape}, }}".encode()
    return _npy(np.zeros((2, 28, 28), np.uint8)).replace(b"(2, 28, 28), }".ljust(len(new)), new)


def _values(*shape: int, fill: int = 0) -> Any:
    return np.full(shape, fill, np.uint8)


def _cut(folder: Path) -> None:
    path = folder / "chestmnist.npz"
    path.write_bytes(path.read_bytes()[:-200])


def _without(folder: Path) -> None:
    arrays = _arrays()
    del arrays["val_labels"]
    _saved(folder, arrays)


MALFORMED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no file": (lambda folder: (folder / "chestmnist.npz").unlink(), r"no file chestmnist\*.npz in --images"),
    "several files": (lambda folder: _saved(folder, {}, "chestmnist_64.npz"), "2 files in --images .*name one of"),
    "not an archive": (lambda folder: (folder / "chestmnist.npz").write_bytes(b"PK"), "not a readable .npz file"),
    "cut short": (_cut, "not a readable .npz file: File is not a zip file"),
    "an array is missing": (_without, "it has no array 'val_labels'"),
    "objects": (_changed("train_labels", np.array([{}] * 6)), "train_labels contains Python objects"),
    "floats": (_changed("test_images", np.zeros((3, 28, 28))), r"is float64\[3, 28, 28\], expected uint8"),
    "colors": (_changed("val_images", _values(2, 28, 28, 3)), r"uint8\[2, 28, 28, 3\], expected uint8\[N"),
    "13 labels": (_changed("val_labels", _values(2, 13)), r"val_labels is uint8\[2, 13\], expected integers"),
    "a label of 2": (_changed("val_labels", _values(2, 14, fill=2)), "val_labels has values other than 0 and 1"),
    "fewer images": (_changed("val_images", _values(1, 28, 28)), r"\[1, 28, 28\], expected \[2, H, H\]"),
    "another size": (_changed("val_images", _values(2, 64, 64)), "different sizes: 28, 64 pixels"),
    "no images": (_changed("val_labels", _values(0, 14)), r"val_labels is uint8\[0, 14\]"),
    "by columns": (_changed("val_images", np.asfortranarray(_values(2, 28, 28))), "stored by columns"),
    "no array": (_member("val_labels.npy", b"hello"), "not a readable .npz file"),
    "too large a head": (_member("val_labels.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\x7f"), "not a readable .npz file"),
    "a bomb": (_member("val_images.npy", _announced("(9999999, 2800, 28)")), "announced as .*not what it holds"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_files_are_one_line_errors(kind: str, tmp_path: Path) -> None:
    folder = _saved(tmp_path / "mnist", _arrays())
    spoil, message = MALFORMED[kind]
    spoil(folder)
    with pytest.raises(UsageError, match=message) as caught:
        read_chestmnist(Reading("chestmnist", (folder,)))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_damaged_behind_its_head_fails_the_build(tmp_path: Path) -> None:
    folder = _saved(tmp_path / "mnist", _arrays(64))
    path = folder / "chestmnist.npz"
    with zipfile.ZipFile(path) as file:
        start = file.getinfo("test_images.npy").header_offset
    data = bytearray(path.read_bytes())
    data[start + 6000 : start + 6100] = b"\xff" * 100
    path.write_bytes(data)
    with pytest.raises(ChexError, match=r"chestmnist.npz is damaged .*; fetch it again"):
        build_shards([folder], None, tmp_path / "out", OPTIONS(dataset="chestmnist"))
    assert not (tmp_path / "out").exists()
