"""`chexvision.load_shards`: shards as objects of the `datasets` library."""

from __future__ import annotations

import io
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import chexvision
from chexvision.data.hf_datasets.load_shards import load_shards
from chexvision.errors import ChexError, UsageError
from chexvision.images.radiograph import decode_grey
from chexvision.labels import NIH
from chexvision.shards.build import build_shards
from chexvision.shards.columns import folder_place
from chexvision.shards.push import push_shards
from chexvision.synthetic.layouts.films import plan_films
from chexvision.synthetic.layouts.vindr_layout import write_vindr
from tests.fakes.fixtures import hub_here
from tests.releases.built import OPTIONS
from tests.shards.pushed import CountingHub, draw


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # a folder whose name fsspec would take for a pattern
    return draw(tmp_path_factory.mktemp("shards") / "a [b] #1", images=20, size=48, shard_bytes=5 * 10**4)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CountingHub]:
    with hub_here(tmp_path_factory.mktemp("hub"), CountingHub) as found:
        yield found


def _rows(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What Parquet holds, by split."""
    place = folder_place(folder)
    rows: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(place.sizes):
        split = path.removeprefix("data/").partition("-")[0]
        columns = ["image", "filename", "labels", "patient_id", "age", "sex", "view"]
        rows.setdefault(split, []).extend(place.read(path, columns)[1].to_pylist())
    return rows


def _check(found: Any, folder: Path) -> None:
    expected = _rows(folder)
    assert set(found) == set(expected)
    for split, rows in expected.items():
        seen = list(found[split])
        assert [row["filename"] for row in seen] == [row["filename"] for row in rows]
        for row, known in zip(seen, rows, strict=True):
            assert np.array_equal(np.asarray(row["image"]), decode_grey(known["image"]["bytes"]))
            names = [NIH.findings[i] for i in row["labels"]]
            assert NIH.format(names) == known["labels"] and row["uncertain"] == row["unknown"] == []
            assert all(row[name] == known[name] for name in ("patient_id", "age", "sex", "view"))


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_of_a_folder(shards: Path, streaming: bool) -> None:
    found = load_shards(shards, streaming=streaming)
    assert isinstance(found, datasets.IterableDatasetDict if streaming else datasets.DatasetDict)
    assert found["train"].features["labels"].feature.names == list(NIH.findings)
    _check(found, shards)


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_of_a_dataset_on_the_hub(hub: CountingHub, shards: Path, streaming: bool) -> None:
    pushed = push_shards(shards, f"chex/shards-{streaming}".lower(), private=True)
    _check(load_shards(str(pushed), streaming=streaming), shards)


def test_images_are_neither_read_nor_copied_before_they_are_looked_at(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shards, copy)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    found = load_shards(copy)
    assert found["train"].data.nbytes < sum(path.stat().st_size for path in copy.rglob("train*.parquet")) / 2
    assert not (tmp_path / "cache").exists()
    shutil.rmtree(copy)
    with pytest.raises(FileNotFoundError):
        found["train"][0]["image"]


def test_what_datasets_do_with_images_works(shards: Path) -> None:
    train = load_shards(shards)["train"]
    means = train.map(lambda row: {"mean": float(np.mean(row["image"]))}, load_from_cache_file=False)
    assert means[1]["mean"] == pytest.approx(float(np.mean(train[1]["image"])))
    assert means[1]["image"].size == (48, 48)
    assert pickle.loads(pickle.dumps(train))[2]["image"].size == (48, 48)  # noqa: S301 - as workers do


def test_a_copy_on_the_hub_contains_the_images(hub: CountingHub, shards: Path) -> None:
    train = load_shards(shards)["train"]
    train.push_to_hub("chex/copy", private=True)
    [path] = [path for path in hub.commits("chex/copy", repo_type="dataset")[0].files if path.endswith(".parquet")]
    table = pq.read_table(io.BytesIO(hub.read("chex/copy", path, repo_type="dataset")))
    kept = table.column("image")[3].as_py()["bytes"]
    assert np.array_equal(decode_grey(kept), np.asarray(train[3]["image"]))


def test_another_process_opens_the_images(shards: Path, tmp_path: Path) -> None:
    """As a worker that is spawned does: it gets the dataset, and has not called `load_shards`."""
    (tmp_path / "pickled").write_bytes(pickle.dumps(load_shards(shards)["test"]))
    code = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb'))[0]['image'].size)"
    registered = "import chexvision.data.hf_datasets.shard_rows\n"  # by the entry point where it is installed
    command = [sys.executable, "-c", registered + code, str(tmp_path / "pickled")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "(48, 48)\n"


def test_uncertain_labels_keep_their_names(tmp_path: Path) -> None:
    write_vindr(tmp_path / "vindr", plan_films(80, 3), 32)
    manifest = build_shards([tmp_path / "vindr"], None, tmp_path / "out", OPTIONS(dataset="vindr"))
    found = load_shards(tmp_path / "out")
    names = found["train"].features["uncertain"].feature.names
    assert names == list(manifest.label_space.findings)
    uncertain = [len(row["uncertain"]) for row in found["train"].remove_columns("image")]
    assert sum(uncertain) == sum(manifest.splits["train"].open_labels.values()) > 0


def test_a_shard_that_was_rebuilt_is_read_again(tmp_path: Path) -> None:
    folder = draw(tmp_path / "shards", images=6, size=48, shard_bytes=10**6)
    first = np.asarray(load_shards(folder)["train"][0]["image"])
    shutil.rmtree(folder)
    draw(folder, images=6, size=64, shard_bytes=10**6)
    assert np.asarray(load_shards(folder)["train"][0]["image"]).shape == (64, 64) != first.shape


def _strange(folder: Path) -> None:
    table = pa.table({"image": [b""], "filename": ["a.png"], "labels": ["Scoliosis"], "patient_id": [1]})
    pq.write_table(table, folder / "train-00000-of-00001.parquet")


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda folder: folder.rmdir(), "no such folder"),
    "empty": (lambda folder: None, "no shards such as"),
    "damaged": (
        lambda folder: (folder / "train-00000-of-00001.parquet").write_bytes(b"PAR1"),
        "not a readable Parquet",
    ),
    "half of them": (lambda folder: (folder / "train-00000-of-00002.parquet").write_bytes(b"x"), "lacks 1 of 2"),
    "other labels": (_strange, "unknown finding 'Scoliosis'"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_shards_are_one_line_errors(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    BAD[kind][0](folder)
    with pytest.raises(ChexError, match=BAD[kind][1]) as caught:
        load_shards(folder)
    assert "\n" not in str(caught.value)


def test_a_dataset_without_a_commit_is_refused() -> None:
    with pytest.raises(UsageError, match="load_shards: user/name is not pinned: name the 40-digit commit sha"):
        load_shards("user/name")


def test_it_is_a_name_of_the_package_and_asks_for_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, shards: Path
) -> None:
    assert chexvision.load_shards is load_shards and "load_shards" in dir(chexvision)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        UsageError, match=r"load_shards needs the package datasets: pip install 'chexvision\[train\]'"
    ):
        load_shards(shards)
