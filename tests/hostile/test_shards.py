"""Untrusted shards: what `train`, `shards verify` and `shards info` report."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.hostile.conftest import Refuses
from tests.shards.conftest import png

TRAIN = "train-00000-of-00001.parquet"
VALIDATION = "validation-00000-of-00001.parquet"
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def columns(split: str = "train", **changed: Any) -> dict[str, Any]:
    """Three images of three patients, as other tools publish them."""
    first = {"train": 1, "validation": 2, "test": 3}[split]
    names = [f"{first:08d}_{visit:03d}.png" for visit in range(3)]
    images = pa.array([{"bytes": png(i), "path": name} for i, name in enumerate(names)], IMAGE)
    return {"image": images, "filename": names, "labels": ["Mass", "No Finding", "Hernia"], **changed}


def write(path: Path, table: dict[str, Any]) -> None:
    pq.write_table(pa.table(table), path)


def changed(**columns_of: Any) -> Callable[[Path], None]:
    return lambda path: write(path, columns(**columns_of))


def without(name: str) -> Callable[[Path], None]:
    return lambda path: write(path, {key: value for key, value in columns().items() if key != name})


def empty(path: Path) -> None:
    pq.write_table(pa.table(columns()).slice(0, 0), path)


def truncate(path: Path) -> None:
    write(path, columns())
    path.write_bytes(path.read_bytes()[:-100])


def scribbled(path: Path) -> None:
    write(path, columns())
    data = bytearray(path.read_bytes())
    data[-200:-20] = bytes(range(180))
    path.write_bytes(data)


def not_utf8(path: Path) -> None:
    raw = pa.array([b"\xff\xfe", b"\xff", b"\xff"], pa.binary())
    write(path, columns(filename=raw.view(pa.string())))


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


SHARDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no bytes": (lambda path: path.write_bytes(b""), "is not a readable Parquet file"),
    "text": (lambda path: path.write_text("hello\n" * 9), "is not a readable Parquet file"),
    "only magic": (lambda path: path.write_bytes(b"PAR1" + b"\xff" * 8 + b"PAR1"), "is not a readable Parquet file"),
    "truncated": (truncate, "is not a readable Parquet file"),
    "scribbled footer": (scribbled, "is not a readable Parquet file"),
    "no rows": (empty, "has no rows"),
    "no image": (without("image"), "has no column 'image'"),
    "no labels": (without("labels"), "has no column 'labels'"),
    "null labels": (changed(labels=["Mass", None, None]), "2 rows without a value in column 'labels'"),
    "contradictory labels": (changed(uncertain=[None, "Mass", None]), "contradicts the uncertain or unknown label"),
    "two labels": (changed(unknown=["Mass", None, None]), "'Mass' has two different labels"),
    "numbers for unknown": (changed(unknown=[1, 2, 3]), "in column 'unknown', expected text"),
    "null names": (changed(filename=["00000001_000.png", None, "x"]), "1 rows without a value in column 'filename'"),
    "null type": (changed(labels=pa.nulls(3)), "has null in column 'labels'"),
    "lists of labels": (changed(labels=[["Mass"], [], []]), "in column 'labels', expected text"),
    "numbered labels": (changed(labels=[1, 2, 3]), "has int64 in column 'labels', expected text"),
    "numbered names": (changed(filename=[1, 2, 3]), "has int64 in column 'filename', expected text"),
    "names that are not text": (not_utf8, "is not a readable Parquet file"),
    "text for images": (changed(image=["a", "b", "c"]), "has string in column 'image'"),
    "other structs for images": (changed(image=[{"path": "x"}] * 3), "in column 'image'"),
    "text for patients": (changed(patient_id=["1", "1", "1"]), "in column 'patient_id', expected an integer"),
    "halves of patients": (changed(patient_id=[1.5, 1.0, 1.0]), "in column 'patient_id', expected an integer"),
    "null patients": (changed(patient_id=[1, None, None]), "patient_id"),
    "huge patients": (changed(patient_id=pa.array([2**64 - 1] * 3, pa.uint64())), "is not a readable Parquet file"),
    "unknown finding": (changed(labels=["\x1b[31mFracture", "Mass", "Mass"]), "unknown finding"),
    "names of no patient": (changed(filename=["../../x.png", "b.png", "c.png"]), "patient"),
    "a folder": (Path.mkdir, "a folder, not a regular file"),
    "a FIFO": (a_fifo, "a FIFO, not a regular file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "a device, not a regular file"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "No such file"),
}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder of two shards without a manifest."""
    data = tmp_path / "shards" / "data"
    data.mkdir(parents=True)
    write(data / TRAIN, columns("train"))
    write(data / VALIDATION, columns("validation"))
    return data.parent


def train(shards: Path) -> list[object]:
    overrides = ["--set", "data.split=shards", "--set", "data.image_size=32"]
    return ["train", "--model", "scratch", "--preset", "smoke", "--data", shards, *overrides]


@pytest.mark.parametrize("name", SHARDS)
def test_an_invalid_shard_is_refused(name: str, shards: Path, refuses: Refuses) -> None:
    make, message = SHARDS[name]
    (shards / "data" / TRAIN).unlink()
    make(shards / "data" / TRAIN)
    for command in (train(shards), ["shards", "info", shards]):
        assert message in refuses(*command)


def test_a_duplicate_image_name_is_refused(shards: Path, refuses: Refuses) -> None:
    names = ["00000001_000.png", "00000001_001.png", "00000001_000.png"]
    write(shards / "data" / TRAIN, columns(filename=names))
    assert "more than once, the first is 00000001_000.png" in refuses(*train(shards), codes=(1,))


@pytest.fixture
def own(synthetic_shards: Path, tmp_path: Path) -> Path:
    """A copy of a folder of shards with its manifest."""
    return Path(shutil.copytree(synthetic_shards, tmp_path / "own"))


def swap(folder: Path) -> None:
    first, second = folder / "data" / TRAIN, folder / "data" / VALIDATION
    first.rename(folder / "between")
    second.rename(first)
    (folder / "between").rename(second)


def flip(folder: Path) -> None:
    path = folder / "data" / TRAIN
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)


def manifest(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def shard_entry(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "manifest.json"
        found = json.loads(path.read_text())
        found["shards"][0] |= changes
        path.write_text(json.dumps(found))

    return change


def written(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "manifest.json").write_text(text)


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "swapped shards": (swap, "bytes, expected"),
    "a flipped bit": (flip, "SHA-256"),
    "a missing split": (lambda folder: (folder / "data" / VALIDATION).unlink(), f"{VALIDATION} is missing"),
    "manifest: text": (written("hello"), "is not a manifest"),
    "manifest: null": (written("null"), "is not a manifest"),
    "manifest: empty": (written(""), "is not a manifest"),
    "manifest: deep": (written("[" * 100_000), "is not a manifest"),
    "manifest: later format": (written('{"format": 4, "chunks": []}'), "has format 4, this version reads up to 3"),
    "manifest: huge format": (written('{"format": 1e400}'), "is not a manifest"),
    "manifest: outside": (shard_entry(path="../../etc/passwd"), "is outside its folder"),
    "manifest: absolute": (shard_entry(path="/etc/passwd"), "is outside its folder"),
    "manifest: other split": (shard_entry(split="test"), "to split 'test'"),
    "manifest: negative rows": (shard_entry(rows=-1), "greater than or equal to 0"),
    "manifest: no shards": (manifest(shards=[]), "is not in its manifest.json"),
    "manifest: a finding with markup": (manifest(label_space={"findings": ["[red]"]}), "label_space.findings.0"),
    "manifest: no findings": (manifest(label_space={"findings": []}), "at least 1 item"),
    "manifest: other findings": (manifest(label_space={"findings": ["Fracture"]}), "unknown finding"),
    "manifest: another kind": (manifest(source={"kind": "painted"}), "'radiographs' or 'synthetic'"),
    "manifest: NaN": (manifest(size=float("nan")), "is not a manifest"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_does_not_match_its_manifest_is_refused(name: str, own: Path, refuses: Refuses) -> None:
    change, message = FOLDERS[name]
    change(own)
    assert message in refuses(*train(own))
    refuses("shards", "verify", own, "--sample", 1)


def test_an_unlisted_shard_is_refused(own: Path, refuses: Refuses) -> None:
    """A complete set, with one more split than the manifest has."""
    found = json.loads((own / "manifest.json").read_text())
    found["shards"] = [shard for shard in found["shards"] if shard["split"] != "test"]
    (own / "manifest.json").write_text(json.dumps(found))
    assert "test-00000-of-00001.parquet is not in its manifest.json" in refuses(*train(own), codes=(1,))


def test_a_manifest_that_is_a_fifo_is_refused(own: Path, refuses: Refuses) -> None:
    (own / "manifest.json").unlink()
    os.mkfifo(own / "manifest.json")
    for command in (train(own), ["shards", "verify", own], ["shards", "info", own]):
        assert "a FIFO, not a regular file" in refuses(*command, codes=(1,))


def test_a_manifest_with_a_wrong_hash_is_refused(own: Path, refuses: Refuses) -> None:
    path = own / "data" / TRAIN
    path.write_bytes(b"not a shard")
    shard_entry(bytes=11, sha256=hashlib.sha256(b"not a shard").hexdigest(), rows=10**15)(own)
    assert "is not a readable Parquet file" in refuses(*train(own), codes=(1,))
    assert "failed" in refuses("shards", "verify", own)
