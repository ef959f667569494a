"""Datasets on the Hub as shards: labels in a first pass, images in a second."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chexvision.cli import main
from chexvision.errors import UsageError
from chexvision.images.radiograph import decode_grey
from chexvision.images.sources import Found, read_images
from chexvision.releases.from_hub.hub_dataset import read_hub
from chexvision.releases.release import Reading
from chexvision.shards.build import Stopped, build_shards
from chexvision.shards.columns import folder_place
from chexvision.shards.planned.ledger import Ledger
from chexvision.shards.push import push_shards
from chexvision.shards.verify import verify_shards
from tests.fakes.fixtures import FAULTS
from tests.releases import hub_data as data
from tests.releases.built import OPTIONS
from tests.shards.pushed import CountingHub, draw


def test_shards_of_a_dataset(tiny: str, tmp_path: Path) -> None:
    options = OPTIONS(dataset=f"hub:chex/tiny@{tiny}", label_map=data.label_map(tmp_path, **data.PERSON), size=120)
    manifest = build_shards([], None, tmp_path / "out", options)
    assert {name: (counts.images, counts.patients) for name, counts in manifest.splits.items()} == {
        "train": (18, 9), "validation": (2, 1), "test": (10, 5),
    }  # fmt: skip
    assert manifest.source.metadata == f"chex/tiny@{tiny}"
    assert manifest.dataset is not None and manifest.dataset.knows_patients
    terms = manifest.dataset.terms
    assert terms and (terms.title, terms.license, terms.credentialed) == ("chex/tiny", "cc-by-4.0", False)
    assert all(check.ok for check in verify_shards(tmp_path / "out", sample=0, seed=0, workers=1))
    place = folder_place(tmp_path / "out")
    seen = {}
    for shard in manifest.shards:
        _, table = place.read(shard.path, ["image", "filename", "labels"])
        for row in table.to_pylist():
            split, file, number = row["filename"].removesuffix(".png").split("-")
            image = (20 if split == "test" else 10 * int(file)) + int(number)
            assert np.array_equal(decode_grey(row["image"]["bytes"]), data.pixels(image, 120))
            assert row["labels"].lower() == "|".join(data.SETS[image % 4] or ("none",)), row["filename"]
            seen[image] = shard.split
    assert sorted(seen) == [*range(30)] and {seen[i] for i in range(20, 30)} == {"test"}


def test_labels_are_read_without_the_images(hub: CountingHub, tmp_path: Path) -> None:
    rows = [{"image": data.image(i, 200), "labels": "mass"} for i in range(40)]
    file = data.parquet({"image": data.IMAGE, "labels": data.STRING}, rows, 20)
    sha = data.push("chex/large", {"train.parquet": file})
    hub.sent = 0
    assert len(data.read("chex/large", sha, data.label_map(tmp_path, **data.LIST)).index.images) == 40
    assert 0 < hub.sent < len(file) / 5


def test_another_process_reads_any_images(tiny: str, tmp_path: Path) -> None:
    images = list(data.read("chex/tiny", tiny, data.label_map(tmp_path, **data.PERSON)).index.images)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        read = pool.submit(_read_all, [images[25], images[3], images[17]]).result()
    assert {found.member: decode_grey(content).tobytes() for found, content in read.items()} == {
        "test/0/5": data.pixels(25, 120).tobytes(),
        "train/0/3": data.pixels(3, 120).tobytes(),
        "train/1/7": data.pixels(17, 120).tobytes(),
    }


def _read_all(images: list[Found]) -> dict[Found, bytes]:
    return {found: load() for found, load in read_images(images)}


def test_only_the_files_of_the_wanted_images_are_read(hub: CountingHub, tiny: str, tmp_path: Path) -> None:
    images = list(data.read("chex/tiny", tiny, data.label_map(tmp_path, **data.PERSON)).index.images)
    hub.requests.clear()
    assert len(_read_all(images[12:14])) == 2
    opened = {r.path.rpartition("/")[2] for r in hub.requests if r.method == "GET" and "/resolve/" in r.path}
    assert "train-b.parquet" in opened and "test-c.parquet" not in opened


def test_an_image_folder(hub: CountingHub, tmp_path: Path) -> None:
    files = {f"train/{name}/{i}.png": data.png(i) for i, name in enumerate(("mass", "none", "mass"))}
    sha = data.push("chex/folder", files)
    label_map = data.label_map(tmp_path, **data.LIST | {"labels": "label", "targets": {"Mass": {"any_of": ["mass"]}}})
    manifest = build_shards(
        [], None, tmp_path / "out", OPTIONS(dataset=f"hub:chex/folder@{sha}", label_map=label_map, size=40)
    )
    assert manifest.images == 3 and not manifest.bad and manifest.split.name == "patient"
    rows = [
        row
        for shard in manifest.shards
        for row in folder_place(tmp_path / "out").read(shard.path, ["image", "labels"])[1].to_pylist()
    ]
    found = {decode_grey(row["image"]["bytes"]).tobytes(): row["labels"] for row in rows}
    assert found == {data.pixels(i).tobytes(): name for i, name in enumerate(("Mass", "none", "Mass")) if i != 2} | {
        data.pixels(2).tobytes(): "Mass"
    }


def test_shards_of_this_project_need_no_map(hub: CountingHub, tmp_path: Path) -> None:
    made = draw(tmp_path / "made", images=12, size=48, shard_bytes=10**6)
    pushed = push_shards(made, "chex/own", private=False)
    manifest = build_shards([], None, tmp_path / "out", OPTIONS(dataset=f"hub:{pushed}", size=48))
    columns = ["image", "filename", "labels", "patient_id", "age", "sex", "view"]
    of_both = []
    for folder in (made, tmp_path / "out"):
        place = folder_place(folder)
        of_both.append([row for path in sorted(place.sizes) for row in place.read(path, columns)[1].to_pylist()])
    assert of_both[0] == of_both[1] and len(of_both[0]) == 12
    assert manifest.source.metadata == str(pushed)
    assert manifest.synthetic


@pytest.mark.parametrize("private", [True, False])
def test_private_and_gated_datasets_are_credentialed(hub: CountingHub, private: bool, tmp_path: Path) -> None:
    repo_id = "chex/private" if private else "chex/gated"
    rows = [{"image": data.image(i), "labels": "mass"} for i in range(3)]
    sha = data.push(
        repo_id, {"train.parquet": data.parquet({"image": data.IMAGE, "labels": data.STRING}, rows)}, private=private
    )
    hub.repos["dataset", repo_id].gated = False if private else "manual"
    terms = data.read(repo_id, sha, data.label_map(tmp_path, **data.LIST)).terms
    assert terms is not None and terms.credentialed


def test_shards_of_a_private_dataset_are_not_sent_to_a_public_one(
    hub: CountingHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"image": data.image(i), "labels": "mass"} for i in range(4)]
    file = data.parquet({"image": data.IMAGE, "labels": data.STRING}, rows)
    sha = data.push("chex/secret", {"train.parquet": file}, private=True)
    words = [
        "--set",
        f"hub:chex/secret@{sha}",
        "--map",
        data.label_map(tmp_path, **data.LIST),
        "--work",
        str(tmp_path / "work"),
    ]
    with pytest.raises(SystemExit) as ended:
        main(["shards", "build", *words, "--to", "chex/public", "--size", "32"])
    assert ended.value.code == 2 and "add --private" in capsys.readouterr().err
    for branch in hub.branches("chex/public", "dataset"):
        assert not any(".parquet" in path for path in hub.commits("chex/public", branch, "dataset")[0].files)


class _Stopping:
    """A build that stops at an image."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.begun_with = -1

    def should_stop(self) -> bool:
        self.left -= 1
        return self.left < 0

    def begins(self, images: int, ledger: Ledger) -> None:
        self.begun_with = ledger.rows

    def finished(self, ledger: Ledger) -> None:
        pass


def test_an_interrupted_build_continues_with_the_same_commit_only(hub: CountingHub, tmp_path: Path) -> None:
    columns = {"image": data.IMAGE, "labels": data.STRING, "split": data.STRING}
    rows = [{"image": data.image(i), "labels": "mass", "split": ("train", "test")[i % 2]} for i in range(60)]
    shas = []
    for version in range(2):  # the second one has other images with the same labels
        rows = [row | {"image": data.image(i + 100 * version)} for i, row in enumerate(rows)]
        shas.append(data.push("chex/versions", {"train.parquet": data.parquet(columns, rows)}))
    label_map = data.label_map(tmp_path, **data.LIST | {"split": ["split"]})
    options = OPTIONS(dataset=f"hub:chex/versions@{shas[0]}", label_map=label_map, shard_bytes=50_000)
    with pytest.raises(Stopped):
        build_shards([], None, tmp_path / "out", options, session=_Stopping(50))
    again = _Stopping(1000)
    other = replace(options, dataset=f"hub:chex/versions@{shas[1]}")
    assert build_shards([], None, tmp_path / "copy", other).images == 60
    for chosen, kept in ((options, True), (other, False)):
        shutil.copytree(tmp_path / "out.partial", tmp_path / f"{kept}.partial")
        build_shards([], None, tmp_path / str(kept), chosen, session=again)
        assert (again.begun_with > 0) == kept
    made, expected = (sorted((tmp_path / name / "data").iterdir()) for name in ("False", "copy"))
    for one, two in zip(made, expected, strict=True):
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("fault", ["503", "disconnect in the response"])
def test_a_build_survives_faults(hub: CountingHub, tiny: str, waits: list[float], fault: str, tmp_path: Path) -> None:
    rules = [hub.faults.add(match, FAULTS[fault]) for match in ("GET /cdn/", "/revision/")]
    options = OPTIONS(dataset=f"hub:chex/tiny@{tiny}", label_map=data.label_map(tmp_path, **data.PERSON))
    assert build_shards([], None, tmp_path / "out", options).images == 30
    assert [rule.fired for rule in rules] == [1, 1]


def _pushed_shards(repo_id: str, rows: list[data.Row], split: str = "train", **keys: Any) -> str:
    """Shards of this project: NIH's labels, and of the columns those that are needed."""
    columns = {
        "image": data.IMAGE, "filename": data.STRING, "labels": data.STRING, "patient_id": data.INT,
        "view": data.STRING,
    }  # fmt: skip
    manifest = json.dumps({"format": 3, "chexvision": "1", **keys}).encode()
    file = data.parquet(columns, rows)
    return data.push(repo_id, {f"data/{split}-00000-of-00001.parquet": file, "manifest.json": manifest})


def _shard_row(number: int, view: str) -> data.Row:
    known = {"image": data.image(number), "filename": f"{number}.png", "labels": "Mass"}
    return known | {"patient_id": number, "view": view}


def test_laterals_of_shards_are_left_out_unless_all_views_are_kept(hub: CountingHub) -> None:
    rows = [_shard_row(1, "PA"), _shard_row(2, "L"), _shard_row(3, "AP")]
    name = f"hub:chex/views@{_pushed_shards('chex/views', rows)}"
    frontal = read_hub(Reading(name))
    assert [found.name for found in frontal.index.images] == ["1.png", "3.png"]
    assert frontal.left_out == (("lateral view; --views all keeps them", 1),)
    assert len(read_hub(Reading(name, views="all")).index.images) == 3
    laterals = _pushed_shards("chex/laterals", [_shard_row(1, "L")])
    with pytest.raises(UsageError, match="has no frontal images; add --views all"):
        data.read("chex/laterals", laterals)


def test_shards_with_another_split_are_refused(hub: CountingHub) -> None:
    sha = _pushed_shards("chex/extra", [_shard_row(1, "PA")], split="extra")
    with pytest.raises(UsageError, match="has the split 'extra'"):
        data.read("chex/extra", sha)
