"""A small release of synthetic radiographs, the real sample if available, and shards to push."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from chexvision.shards.build import BuildOptions, build_shards
from chexvision.shards.manifest import Manifest
from tests.fakes.fixtures import hub_here
from tests.shards.pushed import CountingHub, draw

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
HEAD_2020 = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
LABELS = ("No Finding", "Effusion|Mass", "Hernia", "Pleural_Thickening")


def png(seed: int, side: int = 48, dtype: type = np.uint8, channels: int = 1) -> bytes:
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    pixels = rng.integers(0, top, (side, side, channels), dtype=dtype, endpoint=True)
    return cv2.imencode(".png", pixels.squeeze())[1].tobytes()


class Release:
    """A folder in the release's layout: 20 patients with two images each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.metadata = root.parent / "Data_Entry_2017.csv"
        self.names = [f"{patient:08d}_{visit:03d}.png" for patient in range(1, 21) for visit in range(2)]
        self.files: dict[str, bytes] = {}
        rows = [HEAD_2020]
        for i, name in enumerate(self.names):
            self.put(name, png(i))
            rows.append(f"{name},{LABELS[i % 4]},{i % 2},{i // 2 + 1},0{20 + i}Y,{'MF'[i % 2]},PA,2500,2048,0.1,0.1")
        self.metadata.write_text("\n".join(rows) + "\n")

    def path(self, name: str) -> Path:
        half = 1 if name <= self.names[len(self.names) // 2 - 1] else 2
        return self.root / f"images_{half:03d}" / "images" / name

    def put(self, name: str, data: bytes) -> None:
        self.files[name] = data
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).write_bytes(data)

    def write_lists(self, train_val: list[str], test: list[str]) -> None:
        (self.root / "train_val_list.txt").write_text("\n".join(train_val) + "\n")
        (self.root / "test_list.txt").write_text("\n".join(test))

    def as_archive(self, path: Path, names: list[str] | None = None) -> Path:
        chosen = names or self.names
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w") as archive:
                for name in chosen:
                    archive.write(self.path(name), f"images/{name}")
        else:
            with tarfile.open(path, "w:gz") as tar:
                for name in chosen:
                    tar.add(self.path(name), f"images/{name}")
        return path


def options(**changed: Any) -> BuildOptions:
    usual = BuildOptions(
        split=None, size=32, encoding="png", shard_bytes=10**8, workers=2, seed=0, max_bad=0.0, overwrite=False
    )
    return replace(usual, **changed)


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return Release(tmp_path / "nih")


@pytest.fixture
def built(release: Release, tmp_path: Path) -> tuple[Path, Manifest]:
    out = tmp_path / "shards"
    return out, build_shards([release.root], release.metadata, out, options())


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the real radiographs are not there: {SHARED}")
    return SHARED


@pytest.fixture
def hub(tmp_path: Path, waits: list[float]) -> Iterator[CountingHub]:
    with hub_here(tmp_path / "hub", CountingHub) as hub:
        yield hub


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five shards of small images. Read only."""
    return draw(tmp_path_factory.mktemp("push") / "shards", images=100, size=32, shard_bytes=100_000)


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that are much larger than their metadata. Read only."""
    return draw(tmp_path_factory.mktemp("push") / "large", images=300, size=160, shard_bytes=2**28)
