from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chexvision.config.data_config import ClaheConfig
from chexvision.data import decode
from chexvision.data.decode import decoded_dir, decoded_images
from chexvision.data.rows import read_rows
from chexvision.data.source import ShardSource, find_shards
from chexvision.errors import ChexError
from chexvision.images.preprocessing import Preprocessing
from chexvision.layout import cache_dir
from tests.present import decoded

PLAIN = Preprocessing(image_size=64, clahe=ClaheConfig(enabled=False, clip_limit=2.0, tiles=8))
EQUALIZED = Preprocessing(image_size=64, clahe=ClaheConfig(enabled=True, clip_limit=2.0, tiles=8))


@pytest.fixture
def source(synthetic_shards: Path) -> ShardSource:
    return find_shards(synthetic_shards)


def test_the_array_holds_the_pixels_that_opencv_decodes(source: ShardSource) -> None:
    rows = read_rows(source.shards, None)["train"]
    images = decoded_images(source, rows, PLAIN)
    table = pq.read_table(source.shards["train"][0], columns=["filename", "image"])
    encoded = {
        name: image["bytes"] for name, image in zip(*(column.to_pylist() for column in table.columns), strict=True)
    }
    assert images.shape == (len(rows), 64, 64)
    for i in (0, len(rows) // 2, len(rows) - 1):
        expected = decoded(encoded[rows.filenames[i]], cv2.IMREAD_GRAYSCALE)
        assert np.array_equal(images[i], expected)


def test_clahe_and_resizing_are_applied_while_decoding(source: ShardSource) -> None:
    rows = read_rows(source.shards, None)["validation"]
    plain = decoded_images(source, rows, PLAIN)
    equalised = decoded_images(source, rows, EQUALIZED)
    assert np.array_equal(equalised[0], cv2.createCLAHE(2.0, (8, 8)).apply(np.asarray(plain[0])))
    halved = decoded_images(source, rows, PLAIN.model_copy(update={"image_size": 32}))
    assert np.array_equal(halved[0], cv2.resize(np.asarray(plain[0]), (32, 32), interpolation=cv2.INTER_AREA))


def test_the_second_call_decodes_nothing(source: ShardSource, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = read_rows(source.shards, None)["validation"]
    first = np.array(decoded_images(source, rows, EQUALIZED))
    monkeypatch.setattr(decode, "decode_grey", lambda data: pytest.fail("decoded again"))
    assert np.array_equal(first, decoded_images(source, rows, EQUALIZED))


def test_a_damaged_array_is_decoded_again(source: ShardSource) -> None:
    rows = read_rows(source.shards, None)["validation"]
    first = np.array(decoded_images(source, rows, PLAIN))
    (file,) = decoded_dir().glob("*/images.npy")
    with file.open("r+b") as handle:
        handle.seek(-64 * 64, os.SEEK_END)
        handle.write(b"\x7f" * 64)
    assert np.array_equal(first, decoded_images(source, rows, PLAIN))
    with file.open("r+b") as handle:
        handle.truncate(1000)
    assert np.array_equal(first, decoded_images(source, rows, PLAIN))
    for name in ("crc32.npy", "images.npy"):
        file.with_name(name).write_bytes(b"")
        assert np.array_equal(first, decoded_images(source, rows, PLAIN))


def test_different_rows_get_a_separate_array(source: ShardSource) -> None:
    rows = read_rows(source.shards, None)["train"]
    some = rows.take(np.arange(0, len(rows), 3))
    every = decoded_images(source, rows, PLAIN)
    assert np.array_equal(decoded_images(source, some, PLAIN), np.asarray(every)[::3])


def test_a_changed_shard_is_detected(synthetic_shards: Path, tmp_path: Path) -> None:
    copy = tmp_path / "shards"
    shutil.copytree(synthetic_shards, copy)
    (copy / "manifest.json").unlink()  # with one, a shard that differs from it is refused
    before = find_shards(copy).identity
    shard = find_shards(copy).shards["test"][0]
    data, times = shard.read_bytes(), shard.stat()
    # One byte of an image, with the same size and times: no footer shows it.
    shard.write_bytes(data[:500] + bytes([data[500] ^ 1]) + data[501:])
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert find_shards(copy).identity != before
    shard.write_bytes(data)
    assert find_shards(copy).identity == before


@pytest.mark.parametrize("without", [None, "manifest.json"])
def test_a_copied_folder_has_the_same_dataset_identity(
    synthetic_shards: Path, tmp_path: Path, without: str | None
) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(synthetic_shards, copy, copy_function=shutil.copyfile)
    if without is not None:
        (copy / without).unlink()
    assert find_shards(copy).identity == find_shards(synthetic_shards).identity


def test_a_shard_is_hashed_once_as_long_as_it_does_not_change(
    synthetic_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = find_shards(synthetic_shards).identity
    with monkeypatch.context() as patch:
        patch.setattr("chexvision.files.hashes.sha256_of", lambda _: pytest.fail("hashed again"))
        assert find_shards(synthetic_shards).identity == identity
    (cache_dir() / "sha256.json").write_text("[]")
    assert find_shards(synthetic_shards).identity == identity


def test_an_unreadable_image_is_named_and_leaves_no_array(
    source: ShardSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = read_rows(source.shards, None)["validation"]

    def broken(data: bytes) -> None:
        raise ValueError("truncated PNG")

    monkeypatch.setattr(decode, "decode_grey", broken)
    with pytest.raises(ChexError, match=r"\.png in .*truncated PNG"):
        decoded_images(source, rows, PLAIN)
    assert list(decoded_dir().iterdir()) == []


def test_too_little_disk_space_reports_the_required_size(
    source: ShardSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    rows = read_rows(source.shards, None)["train"]
    with pytest.raises(ChexError, match=r"need 0\.0 GB.*has 0\.0 GB free.*CHEXVISION_CACHE"):
        decoded_images(source, rows, PLAIN)


def test_a_full_disk_is_an_error_and_not_a_crash(synthetic_shards: Path, tmp_path: Path) -> None:
    """A file-size limit replaces the full disk; writing past it through a memory map would kill the process."""
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from chexvision.data import decode; from chexvision.data.rows import read_rows\n"
        "from chexvision.data.source import find_shards; from chexvision.images.preprocessing import Preprocessing\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "source = find_shards(Path(sys.argv[1])); rows = read_rows(source.shards, None)['train']\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: decode.decoded_images(source, rows, Preprocessing(image_size=64))\n"
        "except OSError as error: print('refused', error.errno)\n"
        "print(sorted(p.name for p in decode.decoded_dir().iterdir()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(synthetic_shards)],
        env={**os.environ, "CHEXVISION_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["refused 27", "[]"]


def test_a_null_image_is_named(source: ShardSource, tmp_path: Path) -> None:
    table = pq.read_table(source.shards["validation"][0]).slice(0, 2)
    images = table.column("image").to_pylist()
    nulls = pa.array([images[0], None], table.schema.field("image").type)
    names, labels = (table.column(name).to_pylist() for name in ("filename", "labels"))
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "validation-00000-of-00001.parquet"
    pq.write_table(pa.table({"image": nulls, "filename": names, "labels": labels}), path)
    damaged = find_shards(tmp_path)
    rows = read_rows(damaged.shards, None)["validation"]
    with pytest.raises(ChexError, match=rf"{names[1]} in .*not a readable PNG or JPEG"):
        decoded_images(damaged, rows, PLAIN)
    assert list(decoded_dir().iterdir()) == []
