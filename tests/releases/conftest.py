"""Small synthetic releases in the layouts of real ones, to read and to damage."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from chexvision.cli import main
from chexvision.shards.manifest import Manifest, read_manifest
from chexvision.synthetic.layouts.write_release import write_release
from tests.fakes.fixtures import hub_here
from tests.present import present
from tests.releases import hub_data as data
from tests.shards.pushed import CountingHub

IMAGES, SIZE = 32, 32
# Where the tables are, and what is named with --images, in a synthetic release.
TABLES = {
    "chexpert": "CheXpert-v1.0-small",
    "mimic": "mimic-cxr-jpg/2.1.0",
    "mimic-dicom": "mimic-cxr-jpg/2.1.0",
    "padchest": "",
}
IMAGE_FOLDERS = {**TABLES, "mimic-dicom": "mimic-cxr/2.1.0"}


Get = Callable[[str], "OnDisk"]  # a copy of a synthetic release, by name


@dataclass(frozen=True)
class OnDisk:
    """A release in a folder of its own, which a test may change."""

    name: str
    root: Path

    @property
    def tables(self) -> Path:
        return self.root / TABLES[self.name]

    @property
    def images(self) -> Path:
        return self.root / IMAGE_FOLDERS[self.name]

    def table(self, name: str) -> Path:
        return next(path for path in sorted(self.tables.iterdir()) if path.is_file() and name in path.name)

    def text(self, name: str) -> str:
        data = self.table(name).read_bytes()
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()

    def write(self, name: str, text: str) -> None:
        path = self.table(name)
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())

    def replace(self, name: str, old: str, new: str, count: int = 1) -> None:
        text = self.text(name)
        assert old in text
        self.write(name, text.replace(old, new, count))

    def lines(self, name: str) -> list[str]:
        return self.text(name).splitlines()

    def image(self, kind: str) -> Path:
        """The first image whose path contains `kind`."""
        return next(path for path in sorted(self.images.rglob("*")) if path.is_file() and kind in path.as_posix())

    def build(self, *more: str, images: Path | None = None) -> int:
        """Run `shards build`; its exit code."""
        dataset = self.name.removesuffix("-dicom")
        metadata = ["--metadata", str(self.tables)] if self.name == "mimic-dicom" and "--metadata" not in more else []
        return run(
            "build", "--set", dataset, "--images", images or self.images, "--out", self.root / "out", "--size", "32",
            *metadata, *more,
        )  # fmt: skip

    def rows(self) -> dict[str, dict[str, Any]]:
        tables = [pq.read_table(path) for path in sorted((self.root / "out" / "data").glob("*.parquet"))]
        return {row["filename"]: row for table in tables for row in table.to_pylist()}

    def splits(self) -> dict[str, set[int]]:
        """The patients of each split."""
        found: dict[str, set[int]] = {}
        for path in (self.root / "out" / "data").glob("*.parquet"):
            found.setdefault(path.name.split("-")[0], set()).update(pq.read_table(path)["patient_id"].to_pylist())
        return found


def manifest_of(release: OnDisk) -> Manifest:
    """The manifest of the shards that were built."""
    return present(read_manifest(release.root / "out"))


def run(*words: object) -> int:
    """A command of `chexvision shards`; its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["shards", *map(str, words)])
    return int(ended.value.code or 0)


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a synthetic release; each is written once and read only."""
    folder = tmp_path_factory.mktemp("releases")

    def of(name: str) -> Path:
        if not (folder / name).exists():
            write_release(name, folder / name, images=IMAGES, seed=3, size=SIZE)
        return folder / name

    return of


@pytest.fixture
def release(originals: Callable[[str], Path], tmp_path: Path) -> Callable[[str], OnDisk]:
    """A copy of a synthetic release."""

    def of(name: str) -> OnDisk:
        shutil.copytree(originals(name), tmp_path / name)
        return OnDisk(name, tmp_path / name)

    return of


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CountingHub]:
    with hub_here(tmp_path_factory.mktemp("hub"), CountingHub) as found:
        yield found


@pytest.fixture(scope="module")
def tiny(hub: CountingHub) -> str:
    """Two splits of several files and row groups; two images of each patient."""
    columns = {"image": data.IMAGE, "labels": data.lists_of(data.classes(*data.NAMES)), "person": data.STRING}
    files = {}
    for split, names, start in (("train", ("a", "b"), 0), ("test", ("c",), 20)):
        for file, name in enumerate(names):
            numbers = range(start + 10 * file, start + 10 * file + 10)
            rows = [
                {
                    "image": data.image(i, 120),
                    "labels": [data.NAMES.index(n) for n in data.SETS[i % 4] or ("none",)],
                    "person": f"P{i // 2}",
                }
                for i in numbers
            ]
            files[f"data/{split}-{name}.parquet"] = data.parquet(columns, rows)
    files["README.md"] = b"---\nlicense: cc-by-4.0\n---\n"
    return data.push("chex/tiny", files)
