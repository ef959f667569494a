"""The borders of shards follow from names, and no image makes a shard larger than its limit."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from chexvision.errors import ChexError
from chexvision.images.radiograph import Encoding, encode_grey, most_bytes
from chexvision.shards.build import build_shards
from chexvision.shards.planned.plan import ShardSize, plan_shards
from tests.shards.conftest import Release, options, png, tree

NOISE = np.random.default_rng(0)


def incompressible(side: int) -> list[Any]:
    """Images that neither encoding shrinks."""
    noise = NOISE.integers(0, 256, (side, side), dtype=np.uint8)
    black_or_white = NOISE.integers(0, 2, (side, side), dtype=np.uint8) * 255
    ramp = np.add.outer(np.arange(side) * 7, np.arange(side) * 13).astype(np.uint8) ^ noise
    return [noise, black_or_white, ramp]


@pytest.mark.parametrize("encoding", get_args(Encoding))
@pytest.mark.parametrize("side", [32, 33, 64, 320, 1024])
def test_no_image_is_larger_than_its_bound(side: int, encoding: Encoding) -> None:
    largest = max(len(encode_grey(image, encoding)) for image in incompressible(side))
    assert side**2 * 0.9 < largest <= most_bytes(side, encoding)


def test_borders_depend_on_names_alone() -> None:
    names = [(split, f"{split}{i:03d}") for split in ("test", "train") for i in range(25)]
    size = ShardSize(limit=60_000, side=32, encoding="png")
    planned = plan_shards(names, str, size)
    assert plan_shards(random.Random(1).sample(names, len(names)), str, size) == planned
    assert [shard.path for shard in planned[:2]] == [f"data/train-0000{i}-of-00003.parquet" for i in range(2)]
    assert [name for shard in planned if shard.split == "test" for name in shard.images] == [
        f"test{i:03d}" for i in range(25)
    ]
    long = plan_shards([("train", name * 50) for _, name in names], str, size)
    assert len(long[0].images) < len(planned[0].images)  # a row holds its name


def rows_by_shard(folder: Path) -> dict[str, list[str]]:
    return {
        path.name: pq.read_table(path, columns=["filename"])["filename"].to_pylist()
        for path in sorted(folder.glob("data/*.parquet"))
    }


def test_a_bad_image_leaves_its_shard_and_moves_no_border(release: Release, tmp_path: Path) -> None:
    chosen = options(shard_bytes=50_000, max_bad=0.5)
    build_shards([release.root], release.metadata, tmp_path / "all", chosen)
    before = rows_by_shard(tmp_path / "all")
    release.put(release.names[5], b"not an image")
    build_shards([release.root], release.metadata, tmp_path / "one_less", chosen)
    assert rows_by_shard(tmp_path / "one_less") == {
        shard: [name for name in names if name != release.names[5]] for shard, names in before.items()
    }
    for name in next(iter(before.values())):
        release.put(name, b"not an image")
    with pytest.raises(ChexError, match=r"all \d+ images of data/.* are bad, first 0"):
        build_shards([release.root], release.metadata, tmp_path / "none", chosen)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("encoding", get_args(Encoding))
def test_shards_of_noise_are_within_their_limit(release: Release, tmp_path: Path, encoding: Encoding) -> None:
    for i, name in enumerate(release.names):
        release.put(name, png(i, 64))
    chosen = options(shard_bytes=100_000, size=64, encoding=encoding)
    manifest = build_shards([release.root], release.metadata, tmp_path / "out", chosen)
    assert max(shard.bytes for shard in manifest.shards) <= 100_000
    assert manifest.images == 40


def test_a_jpeg_above_the_bound_is_a_bad_image(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def larger(extension: str, image: Any, parameters: Any = ()) -> Any:
        done, data = encode(extension, image, parameters)
        return done, np.concatenate([data, np.zeros(9000, np.uint8)])

    encode = cv2.imencode
    monkeypatch.setattr(cv2, "imencode", larger)
    with pytest.raises(ChexError, match=r"its jpeg has 1\d,\d\d\d bytes: noise, not a radiograph"):
        build_shards([release.root], release.metadata, tmp_path / "out", options(encoding="jpeg"))


def test_the_names_of_a_finished_set_are_final_while_it_is_built(release: Release, tmp_path: Path) -> None:
    seen: list[str] = []

    class Watch:
        def should_stop(self) -> bool:
            seen.extend(path.name for path in (tmp_path / "out.partial").rglob("*.parquet"))
            return False

        def begins(self, images: int, ledger: Any) -> None: ...

        def finished(self, ledger: Any) -> None: ...

    build_shards([release.root], release.metadata, tmp_path / "out", options(shard_bytes=50_000), Watch())
    assert set(seen) <= {Path(path).name for path in tree(tmp_path / "out")}
    assert len(set(seen)) > 3
