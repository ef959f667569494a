from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chexvision.errors import ChexError, UsageError
from chexvision.shards.manifest import Manifest, read_manifest, write_manifest
from chexvision.shards.schema import arrow_schema, list_shards, patient_of
from chexvision.shards.verify import verify_shards
from tests.shards.conftest import png


def failures(folder: Path) -> dict[str, str]:
    return {c.name: "; ".join(c.problems) for c in verify_shards(folder, sample=0, seed=0, workers=1) if not c.ok}


def rewrite(folder: Path, manifest: Manifest, split: str, table: pa.Table) -> None:
    """Put `table` in place of a split's one shard, with a manifest that knows its hash."""
    index = next(i for i, shard in enumerate(manifest.shards) if shard.split == split)
    shard = manifest.shards[index]
    pq.write_table(table, folder / shard.path)
    data = (folder / shard.path).read_bytes()
    changed = replace(shard, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    shards = (*manifest.shards[:index], changed, *manifest.shards[index + 1 :])
    write_manifest(folder, replace(manifest, shards=shards))


def read(folder: Path, split: str) -> pa.Table:
    return pq.read_table(list_shards(folder)[split][0])


def replaced(table: pa.Table, column: str, values: Sequence[object]) -> pa.Table:
    index = table.schema.names.index(column)
    changed = table.set_column(index, table.schema.field(index), pa.array(values, table.schema.field(index).type))
    return changed.cast(arrow_schema())


def test_a_new_build_verifies(built: tuple[Path, Manifest]) -> None:
    assert failures(built[0]) == {}


def test_a_flipped_byte_is_found(built: tuple[Path, Manifest]) -> None:
    path = list_shards(built[0])["test"][0]
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    found = failures(built[0])
    assert "test-00000-of-00001.parquet has SHA-256" in found["hashes"]


def test_a_truncated_shard_is_found(built: tuple[Path, Manifest]) -> None:
    path = list_shards(built[0])["train"][0]
    path.write_bytes(path.read_bytes()[:-10])
    assert "bytes, expected" in failures(built[0])["hashes"]


def test_a_missing_shard_is_found(built: tuple[Path, Manifest]) -> None:
    list_shards(built[0])["validation"][0].unlink()
    found = failures(built[0])
    assert "validation-00000-of-00001.parquet is missing" in found["files present"]


def test_an_unlisted_shard_is_found(built: tuple[Path, Manifest]) -> None:
    (built[0] / "data" / "train-00001-of-00002.parquet").write_bytes(b"x")
    assert "train-00001-of-00002.parquet is not in the manifest" in failures(built[0])["no further shards"]


def test_a_patient_in_two_splits_is_found(built: tuple[Path, Manifest]) -> None:
    out, manifest = built
    table = read(out, "test")
    shared_patient = read(out, "train")["patient_id"][0].as_py()
    rewrite(out, manifest, "test", replaced(table, "patient_id", [shared_patient] * len(table)))
    assert failures(out)["patients in one split each"] == (
        f"patient {shared_patient} is in both train and test, one of 1 shared patients, who have {len(table)} of the "
        f"{len(table)} test images (100 %)"
    )


def test_wrong_labels_and_counts_are_found(built: tuple[Path, Manifest]) -> None:
    out, manifest = built
    table = read(out, "test")
    rewrite(out, manifest, "test", replaced(table, "labels", ["Fracture"] + ["Edema"] * (len(table) - 1)))
    found = failures(out)
    assert "Fracture" in found["labels"]
    assert "Edema, expected 0" in found["counts"]


def test_other_columns_are_found(built: tuple[Path, Manifest]) -> None:
    out, manifest = built
    rewrite(out, manifest, "test", read(out, "test").drop_columns(["age"]))
    assert "test-00000-of-00001.parquet has other columns" in failures(out)["schema"]


@pytest.mark.parametrize(("data", "reason"), [(b"x", "not a readable"), (png(0, 50), "50×50 pixels, expected 32×32")])
def test_a_null_or_differently_sized_image_is_found(built: tuple[Path, Manifest], data: bytes, reason: str) -> None:
    out, manifest = built
    table = read(out, "test")
    images = table["image"].to_pylist()
    images[3]["bytes"] = data
    rewrite(out, manifest, "test", replaced(table, "image", images))
    assert reason in failures(out)["40 images decode"]


def test_a_missing_or_invalid_manifest_is_refused(built: tuple[Path, Manifest]) -> None:
    path = built[0] / "manifest.json"
    path.write_text(path.read_text().replace('"format": 3', '"format": 9'))
    with pytest.raises(ChexError, match="format 9"):
        read_manifest(built[0])
    path.write_text("{}")
    with pytest.raises(ChexError, match="is not a manifest"):
        read_manifest(built[0])
    path.unlink()
    assert read_manifest(built[0]) is None
    with pytest.raises(UsageError, match=r"no manifest\.json"):
        list(verify_shards(built[0], sample=1, seed=0, workers=1))


def test_shards_of_other_tools_are_listed_flat_or_below_data(tmp_path: Path) -> None:
    names = ["train-00001-of-00002.parquet", "train-00000-of-00002.parquet", "test-00000-of-00001.parquet"]
    for name in names:
        (tmp_path / name).touch()
    assert {s: [p.name for p in ps] for s, ps in list_shards(tmp_path).items()} == {
        "train": sorted(names[:2]),
        "test": names[2:],
    }
    (tmp_path / names[1]).unlink()
    with pytest.raises(UsageError, match="lacks 1 of 2 train shards; the first is train-00000-of-00002"):
        list_shards(tmp_path)
    (tmp_path / "train-00000-of-00001.parquet").touch()
    with pytest.raises(UsageError, match="mixes train shards of two sets"):
        list_shards(tmp_path)


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no shards such as"):
        list_shards(tmp_path)
    with pytest.raises(UsageError, match="is not a folder"):
        list_shards(tmp_path / "nowhere")


def test_the_patient_is_read_from_the_file_name() -> None:
    assert patient_of("images/00030805_000.png") == 30805
    with pytest.raises(ValueError, match="8 digits"):
        patient_of("patient1.png")
