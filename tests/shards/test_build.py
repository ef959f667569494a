from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from chexvision.errors import ChexError, UsageError
from chexvision.images.radiograph import decode_grey, resize_area
from chexvision.shards.build import build_shards
from chexvision.shards.manifest import Manifest, read_manifest
from chexvision.shards.schema import list_shards, patient_of
from chexvision.shards.split import read_split_table
from chexvision.shards.verify import verify_shards
from tests.present import decoded, present
from tests.shards.conftest import Release, options, png, tree


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [
        row for paths in list_shards(folder).values() for path in paths for row in pq.read_table(path).to_pylist()
    ]


def test_each_image_is_stored_losslessly_with_its_metadata(release: Release, built: tuple[Path, Manifest]) -> None:
    rows = {row["filename"]: row for row in rows_of(built[0])}
    assert sorted(rows) == release.names
    for name, row in rows.items():
        assert row["image"]["path"] == name
        stored = decoded(row["image"]["bytes"])
        assert stored.shape == (32, 32)
        assert np.array_equal(stored, resize_area(decode_grey(release.files[name]), 32))
    first = rows["00000003_001.png"]
    assert {k: v for k, v in first.items() if k != "image"} == {
        "filename": "00000003_001.png", "labels": "Effusion|Mass", "patient_id": 3, "age": 25, "sex": "F",
        "view": "PA", "follow_up": 1, "original_width": 2500, "original_height": 2048,
    }  # fmt: skip


def test_building_again_gives_the_same_bytes_with_any_worker_count(release: Release, tmp_path: Path) -> None:
    folders = []
    for workers in (1, 3):
        out = tmp_path / f"shards{workers}"
        build_shards([release.root], release.metadata, out, options(workers=workers))
        folders.append(tree(out))
    assert folders[0] == folders[1]


@pytest.mark.parametrize("kind", ["all.tar.gz", "all.zip"])
def test_an_archive_in_any_order_gives_the_shards_of_the_folder(
    release: Release, built: tuple[Path, Manifest], tmp_path: Path, kind: str
) -> None:
    shuffled = random.Random(4).sample(release.names, len(release.names))
    archive = release.as_archive(tmp_path / kind, shuffled)
    out = tmp_path / "from_archive"
    build_shards([archive], release.metadata, out, options())
    assert tree(out) == tree(built[0])


def test_folders_and_archives_can_be_mixed(release: Release, built: tuple[Path, Manifest], tmp_path: Path) -> None:
    release.as_archive(release.root / "odd.tar.gz", release.names[1::2])
    for name in release.names[1::2]:
        release.path(name).unlink()
    out = tmp_path / "mixed"
    build_shards([release.root], release.metadata, out, options())
    assert tree(out) == tree(built[0])


def test_a_damaged_archive_is_a_one_line_error(release: Release, tmp_path: Path) -> None:
    archive = release.as_archive(tmp_path / "all.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-3000])
    with pytest.raises(ChexError, match=r"all\.tar\.gz is damaged"):
        build_shards([archive], release.metadata, tmp_path / "out", options())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a readable"),
        (b"no image", "not a readable"),
        (png(1)[:-40], "truncated PNG"),
        (png(1)[:200] + b"\x00\x01" + png(1)[202:], "damaged PNG"),
    ],
    ids=["empty", "text", "truncated", "flipped"],
)
def test_an_unreadable_image_is_named_and_counted(release: Release, tmp_path: Path, data: bytes, reason: str) -> None:
    name = release.names[7]
    release.put(name, data)
    manifest = build_shards([release.root], release.metadata, tmp_path / "out", options(max_bad=0.05))
    assert [bad.name for bad in manifest.bad] == [name]
    assert reason in manifest.bad[0].reason
    assert manifest.images == len(release.names) - 1
    assert name in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(ChexError, match=f"1 of 40 images are bad.*{name}.*--max-bad"):
        build_shards([release.root], release.metadata, tmp_path / "none", options(max_bad=0.02))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["Data_Entry_2017.csv", "nih", "out"]


def test_unlabelled_and_duplicate_images_are_named(release: Release, tmp_path: Path) -> None:
    lines = release.metadata.read_text().splitlines()
    lines[1] = lines[1].replace("No Finding", "Fracture")
    lines[2] = lines[2].replace("Effusion|Mass", "")
    release.metadata.write_text("\n".join(line for line in lines if release.names[5] not in line))
    (release.root / "zz").mkdir()
    (release.root / "zz" / release.names[9]).write_bytes(b"x")
    manifest = build_shards([release.root], release.metadata, tmp_path / "out", options(max_bad=0.5))
    reasons = {bad.name: bad.reason for bad in manifest.bad}
    assert "Fracture" in reasons[release.names[0]]
    assert "empty" in reasons[release.names[1]]
    assert "not in the metadata" in reasons[release.names[5]]
    assert "second file" in reasons[release.names[9]]
    assert manifest.images == len(release.names) - 3


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint16, 1), (np.uint8, 3), (np.uint8, 4)])
def test_16_bit_and_color_inputs_become_8_bit_grayscale(
    release: Release, tmp_path: Path, dtype: type, channels: int
) -> None:
    release.put(release.names[0], png(3, 64, dtype, channels))
    build_shards([release.root], release.metadata, tmp_path / "out", options())
    row = next(row for row in rows_of(tmp_path / "out") if row["filename"] == release.names[0])
    stored = decoded(row["image"]["bytes"])
    assert stored.shape == (32, 32)
    assert abs(float(stored.mean()) - 127) < 6  # noise over the full range, whatever the depth


def test_shards_respect_their_size_limit_and_are_numbered(release: Release, tmp_path: Path) -> None:
    manifest = build_shards([release.root], release.metadata, tmp_path / "out", options(shard_bytes=60_000))
    train = [shard for shard in manifest.shards if shard.split == "train"]
    assert len(train) > 1
    assert train[1].path == f"data/train-00001-of-{len(train):05d}.parquet"
    assert all(shard.bytes <= 60_000 for shard in manifest.shards)
    assert len(list_shards(tmp_path / "out")["train"]) == len(train)
    with pytest.raises(UsageError, match="cannot contain one image"):
        build_shards([release.root], release.metadata, tmp_path / "tiny", options(shard_bytes=1000))


def test_manifest_counts_match_the_shards(built: tuple[Path, Manifest]) -> None:
    out, manifest = built
    assert read_manifest(out) == manifest
    rows = rows_of(out)
    assert manifest.images == len(rows)
    found = sum(counts.findings["Hernia"] for counts in manifest.splits.values())
    assert found == sum("Hernia" in str(row["labels"]) for row in rows)
    assert sum(counts.patients for counts in manifest.splits.values()) == 20


def test_datasets_and_duckdb_read_the_shards(
    built: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    out, manifest = built
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert {name: len(split) for name, split in loaded.items()} == {
        name: counts.images for name, counts in manifest.splits.items()
    }
    assert loaded["train"][0]["image"].size == (32, 32)
    assert isinstance(loaded["train"].features["image"], datasets.Image)
    query = f"select count(*), count(distinct patient_id), min(octet_length(image.bytes)) from '{out}/data/*.parquet'"
    images, patients, smallest = present(duckdb.sql(query)).fetchall()[0]
    assert (images, patients) == (40, 20) and smallest > 100


def test_only_own_shards_are_replaced(release: Release, built: tuple[Path, Manifest], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--overwrite"):
        build_shards([release.root], release.metadata, built[0], options())
    build_shards([release.root], release.metadata, built[0], options(overwrite=True, size=40))
    after = read_manifest(built[0])
    assert after is not None and after.size == 40
    other = tmp_path / "photos"
    other.mkdir()
    (other / "me.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match="not empty"):
        build_shards([release.root], release.metadata, other, options(overwrite=True))
    assert (other / "me.jpg").exists()


def test_an_empty_folder_is_a_one_line_error(release: Release, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no PNG, JPEG or DICOM file in"):
        build_shards([tmp_path / "empty"], release.metadata, tmp_path / "out", options())


def test_too_little_disk_space_is_reported_before_writing(release: Release, tmp_path: Path) -> None:
    with pytest.raises(ChexError, match="GB free and about"):
        build_shards([release.root], release.metadata, tmp_path / "out", options(size=2_000_000, shard_bytes=10**14))
    assert not (tmp_path / "out").exists()


def test_the_real_sample_builds_verifies_and_stays_small(shared: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    manifest = build_shards(
        [shared / "nih-sample"],
        shared / "Data_Entry_2017_v2020.csv.gz",
        out,
        options(size=320, split=str(shared / "chexnet_patient_split.csv.gz")),
    )
    assert (manifest.images, manifest.bad) == (152, ())
    assert sum(shard.bytes for shard in manifest.shards) / manifest.images < 50_000
    assert [str(check) for check in verify_shards(out, sample=0, seed=0, workers=2) if not check.ok] == []
    table = read_split_table(shared / "chexnet_patient_split.csv.gz")
    assert set(manifest.splits) == {table[int(str(row["patient_id"]))] for row in rows_of(out)}
    rgba = [
        path for path in (shared / "nih-sample").rglob("*.png") if path.read_bytes()[25] == 6
    ]  # byte 25 of a PNG is its colour type
    assert len(rgba) == 1
    row = next(row for row in rows_of(out) if row["filename"] == rgba[0].name)
    image = row["image"]
    assert isinstance(image, dict)
    assert image["bytes"][25] == 0 and row["patient_id"] == patient_of(rgba[0].name)
    assert io.BytesIO(image["bytes"]).read(8) == b"\x89PNG\r\n\x1a\n"
