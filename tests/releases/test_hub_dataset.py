"""Datasets on the Hub as releases: labels in a first pass, images in a second."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from chexvision.cli import main
from chexvision.errors import ChexError, UsageError
from chexvision.images.radiograph import decode_grey
from chexvision.images.sources import Found, read_images
from chexvision.labels import UNCERTAIN
from chexvision.releases.from_hub.hub_dataset import read_hub
from chexvision.releases.release import Reading, Release
from chexvision.shards.build import Stopped, build_shards
from chexvision.shards.columns import folder_place
from chexvision.shards.planned.ledger import Ledger
from chexvision.shards.push import push_shards
from chexvision.shards.verify import verify_shards
from tests.fakes.fixtures import FAULTS, hub_here
from tests.releases import hub_data as data
from tests.releases.built import OPTIONS
from tests.shards.pushed import CountingHub, draw

TARGETS = {"Mass": {"any_of": ["mass"]}, "Effusion": {"any_of": ["effusion"]}}
LIST = {"form": "list", "labels": "labels", "normal": "none", "targets": TARGETS}
SETS = ((), ("mass",), ("mass", "effusion"), ("effusion",))  # of the images 0, 1, 2, 3, 0, …
NAMES = ("none", "mass", "effusion")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CountingHub]:
    with hub_here(tmp_path_factory.mktemp("hub"), CountingHub) as found:
        yield found


def _map(folder: Path, **keys: Any) -> str:
    path = folder / "map.yaml"
    path.write_text(yaml.safe_dump({"name": "test", "image": ["image"], **keys}, sort_keys=False))
    return str(path)


def _read(repo_id: str, sha: str, label_map: str | None = None) -> Release:
    return read_hub(Reading(f"hub:{repo_id}@{sha}", label_map=label_map))


def _values(release: Release) -> list[tuple[float, ...]]:
    entries = [release.entries[found.name] for found in release.index.images]
    return [release.space.values(entry.labels, entry.uncertain, entry.unknown) for entry in entries]


def _numbers(seen: tuple[str, ...], prefix: str, kind: type) -> data.Row:
    return {f"{prefix} {name}": kind(name in seen) for name in NAMES[1:]}


def _columns(prefix: str, **keys: Any) -> dict[str, Any]:
    targets = {name.title(): {"any_of": [f"{prefix} {name}"]} for name in NAMES[1:]}
    return {"form": "columns", "targets": targets, **keys}


WAYS = {
    "lists of classes": LIST,
    "lists of texts": LIST | {"labels": "texts"},
    "lists that may be empty": LIST | {"labels": "empty", "normal": ["none", ""]},
    "joined": LIST | {"labels": "joined", "separator": "|"},
    "integers": _columns("int"),
    "booleans": _columns("bool"),
    "numbers": _columns("float"),
    "classes": _columns("class", positive=["yes"], negative=["no"]),
}


@pytest.fixture(scope="module")
def forms(hub: CountingHub) -> str:
    """A dataset with the same labels in many forms."""
    columns = {
        "image": data.IMAGE, "labels": data.lists_of(data.classes(*NAMES)), "texts": data.STRINGS,
        "empty": data.STRINGS, "joined": data.STRING,
    }  # fmt: skip
    kinds = {"int": data.INT, "bool": data.BOOL, "float": data.FLOAT, "class": data.classes("no", "yes")}
    columns |= {f"{prefix} {name}": kind for prefix, kind in kinds.items() for name in NAMES[1:]}
    rows = []
    for i, seen in enumerate(SETS):
        named = seen or ("none",)
        row = {"image": data.image(i), "labels": [NAMES.index(name) for name in named], "texts": list(named)}
        row |= {"empty": list(seen), "joined": "|".join(named)}
        row |= _numbers(seen, "int", int) | _numbers(seen, "bool", bool) | _numbers(seen, "float", float)
        rows.append(row | _numbers(seen, "class", int))
    return data.push("chex/forms", {"train.parquet": data.parquet(columns, rows)})


@pytest.mark.parametrize("way", WAYS)
def test_labels_in_many_forms(way: str, forms: str, tmp_path: Path) -> None:
    release = _read("chex/forms", forms, _map(tmp_path, **WAYS[way]))
    assert release.space.findings == ("Mass", "Effusion")
    assert _values(release) == [(0, 0), (1, 0), (1, 1), (0, 1)]


def test_uncertain_and_missing_labels_stay_so(hub: CountingHub, tmp_path: Path) -> None:
    columns = {"image": data.IMAGE, "mass": data.FLOAT, "effusion": data.INT}
    rows = [
        {"image": data.image(0), "mass": -1.0, "effusion": None},
        {"image": data.image(1), "mass": math.nan, "effusion": 1},
    ]
    sha = data.push("chex/open", {"train.parquet": data.parquet(columns, rows)})
    first, second = _values(_read("chex/open", sha, _map(tmp_path, form="columns", targets=TARGETS)))
    assert first[0] == UNCERTAIN and math.isnan(first[1])
    assert math.isnan(second[0]) and second[1] == 1


@pytest.fixture(scope="module")
def tiny(hub: CountingHub) -> str:
    """Two splits of several files and row groups; two images of each patient."""
    columns = {"image": data.IMAGE, "labels": data.lists_of(data.classes(*NAMES)), "person": data.STRING}
    files = {}
    for split, names, start in (("train", ("a", "b"), 0), ("test", ("c",), 20)):
        for file, name in enumerate(names):
            numbers = range(start + 10 * file, start + 10 * file + 10)
            rows = [
                {
                    "image": data.image(i, 120),
                    "labels": [NAMES.index(n) for n in SETS[i % 4] or ("none",)],
                    "person": f"P{i // 2}",
                }
                for i in numbers
            ]
            files[f"data/{split}-{name}.parquet"] = data.parquet(columns, rows)
    files["README.md"] = b"---\nlicense: cc-by-4.0\n---\n"
    return data.push("chex/tiny", files)


PERSON = LIST | {"patient": ["person"]}


def test_shards_of_a_dataset(tiny: str, tmp_path: Path) -> None:
    options = OPTIONS(dataset=f"hub:chex/tiny@{tiny}", label_map=_map(tmp_path, **PERSON), size=120)
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
            assert row["labels"].lower() == "|".join(SETS[image % 4] or ("none",)), row["filename"]
            seen[image] = shard.split
    assert sorted(seen) == [*range(30)] and {seen[i] for i in range(20, 30)} == {"test"}


def test_labels_are_read_without_the_images(hub: CountingHub, tmp_path: Path) -> None:
    rows = [{"image": data.image(i, 200), "labels": "mass"} for i in range(40)]
    file = data.parquet({"image": data.IMAGE, "labels": data.STRING}, rows, 20)
    sha = data.push("chex/large", {"train.parquet": file})
    hub.sent = 0
    assert len(_read("chex/large", sha, _map(tmp_path, **LIST)).index.images) == 40
    assert 0 < hub.sent < len(file) / 5


def test_another_process_reads_any_images(tiny: str, tmp_path: Path) -> None:
    images = list(_read("chex/tiny", tiny, _map(tmp_path, **PERSON)).index.images)
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
    images = list(_read("chex/tiny", tiny, _map(tmp_path, **PERSON)).index.images)
    hub.requests.clear()
    assert len(_read_all(images[12:14])) == 2
    opened = {r.path.rpartition("/")[2] for r in hub.requests if r.method == "GET" and "/resolve/" in r.path}
    assert "train-b.parquet" in opened and "test-c.parquet" not in opened


def test_an_image_folder(hub: CountingHub, tmp_path: Path) -> None:
    files = {f"train/{name}/{i}.png": data.png(i) for i, name in enumerate(("mass", "none", "mass"))}
    sha = data.push("chex/folder", files)
    label_map = _map(tmp_path, **LIST | {"labels": "label", "targets": {"Mass": {"any_of": ["mass"]}}})
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
    terms = _read(repo_id, sha, _map(tmp_path, **LIST)).terms
    assert terms is not None and terms.credentialed


def test_shards_of_a_private_dataset_are_not_sent_to_a_public_one(
    hub: CountingHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"image": data.image(i), "labels": "mass"} for i in range(4)]
    file = data.parquet({"image": data.IMAGE, "labels": data.STRING}, rows)
    sha = data.push("chex/secret", {"train.parquet": file}, private=True)
    words = ["--set", f"hub:chex/secret@{sha}", "--map", _map(tmp_path, **LIST), "--work", str(tmp_path / "work")]
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
    label_map = _map(tmp_path, **LIST | {"split": ["split"]})
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
    options = OPTIONS(dataset=f"hub:chex/tiny@{tiny}", label_map=_map(tmp_path, **PERSON))
    assert build_shards([], None, tmp_path / "out", options).images == 30
    assert [rule.fired for rule in rules] == [1, 1]


def test_without_a_commit_the_message_names_the_current_one(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["shards", "build", "--set", "hub:chex/tiny", "--out", str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.endswith(f"now it is hub:chex/tiny@{tiny}\n") and said.count("\n") == 1


def test_without_a_map_the_message_lists_the_columns(tiny: str) -> None:
    with pytest.raises(
        UsageError,
        match=r"needs --map .*image: Image; labels: lists of classes \(none, mass, effusion\); person: string",
    ):
        _read("chex/tiny", tiny)


USUAL = {"image": data.IMAGE, "labels": data.STRING, "person": data.STRING}
IMAGES = [{"image": data.image(i), "labels": "mass", "person": f"P{i}"} for i in range(3)]
FILE = data.parquet(USUAL, IMAGES)


def _one(labels: Any, kind: data.Kind = data.STRING) -> bytes:
    return data.parquet(USUAL | {"labels": kind}, [IMAGES[0] | {"labels": labels}])


def _two_images() -> bytes:
    return data.parquet(USUAL | {"other": data.IMAGE}, [IMAGES[0] | {"other": data.image(9)}])


def _no_images() -> bytes:
    return data.parquet({"labels": data.STRING}, [{"labels": "mass"}])


MALFORMED: dict[str, tuple[dict[str, bytes], dict[str, Any], str]] = {
    "no data": ({"notes.bin": b"x"}, {}, "has no data files"),
    "a script": ({"{name}.py": b"import os"}, {}, "consists of a script, which is not run"),
    "pickles": ({"train.pkl": b"\x80\x04K\x01."}, {}, "has no data files|in the format pandas; hub: reads"),
    "a table": ({"train.csv": b"labels\nmass\n"}, {}, "in the format csv; hub: reads Parquet and image folders"),
    "damaged": ({"train.parquet": b"PAR1" + bytes(100)}, {}, "cannot be read .opening.: "),
    "a web page": ({"train.parquet": b"<html></html>"}, {}, "cannot be read .opening.: "),
    "no images": ({"train.parquet": _no_images()}, {}, "has no column of images: labels: string"),
    "two images": ({"train.parquet": _two_images()}, {"image": ["x"]}, "columns of images: image, other; name one"),
    "no such column": ({"train.parquet": FILE}, {"labels": "findings"}, "no column 'findings'"),
    "no patients": ({"train.parquet": FILE}, {"patient": ["subject"]}, "no column 'subject'"),
    "a strange label": ({"train.parquet": _one("edema")}, {}, "the label 'edema' is in no target"),
    "a separator": ({"train.parquet": _one(["mass", "a,b"], data.STRINGS)}, {}, "'a,b' contains ','; set separator:"),
    "bytes": ({"train.parquet": _one(b"mass", data.BINARY)}, {}, "not binary"),
    "a strange split": ({"data/train-00000-of-00001.parquet": FILE, "data/holdout-00000-of-00001.parquet": FILE},
                        {}, "has the split 'holdout'"),
    "a patient in two splits": ({"train.parquet": FILE, "test.parquet": FILE}, {"patient": ["person"]},
                                "its patient is in two splits"),
    "no rows": ({"train.parquet": data.parquet(USUAL, [])}, {}, "has no rows|cannot be read"),
    "a join": ({"train.parquet": FILE}, {"join": {"file": "x.csv", "by": ["a"]}}, "joins a second table"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_datasets_are_one_line_errors(kind: str, hub: CountingHub, tmp_path: Path) -> None:
    files, keys, message = MALFORMED[kind]
    name = f"bad-{kind.replace(' ', '-')}"
    sha = data.push(f"chex/{name}", {path.format(name=name): content for path, content in files.items()})
    with pytest.raises(ChexError, match=message) as caught:
        _read(f"chex/{name}", sha, _map(tmp_path, **LIST | keys))
    assert "\n" not in str(caught.value)


NAMED = {
    "tiny@{sha}": "is not hub:USER/NAME@SHA",
    "chex/tiny@{sha}:no such": "is not hub:USER/NAME@SHA",
    "chex/tiny@{sha}:other": r"name one of its configurations after a colon: .*'default'",
    "chex/nothing@{sha}": "the Hub has no dataset chex/nothing",
    "chex/tiny@" + "a" * 40: "has no revision a{40}",
    "/etc/passwd": "is not hub:USER/NAME@SHA",
}


@pytest.mark.parametrize("name", NAMED)
def test_wrong_names_are_one_line_errors(name: str, tiny: str, tmp_path: Path) -> None:
    with pytest.raises(ChexError, match=NAMED[name]) as caught:
        read_hub(Reading(f"hub:{name.format(sha=tiny)}", label_map=_map(tmp_path, **PERSON)))
    assert "\n" not in str(caught.value)


def test_paths_of_this_computer_and_of_other_servers_are_not_followed(hub: CountingHub, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(data.png(1))
    paths = [str(secret), f"file://{secret}", "https://localhost/x.png", "hf://datasets/chex/other@main/x.png"]
    values = [*({"bytes": None, "path": path} for path in paths), None, {"bytes": b"", "path": None}]
    images = [*map(data.image, range(20)), *values]
    rows = [{"image": value, "labels": "mass", "person": f"{i}"} for i, value in enumerate(images)]
    sha = data.push("chex/paths", {"train.parquet": data.parquet(USUAL, rows)})
    options = OPTIONS(dataset=f"hub:chex/paths@{sha}", label_map=_map(tmp_path, **LIST), max_bad=1.0)
    manifest = build_shards([], None, tmp_path / "out", options)
    assert manifest.images == 20
    assert [image.reason for image in manifest.bad] == ["it has no bytes"] * 5 + [
        "not a readable PNG, JPEG or DICOM file"
    ]


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
        _read("chex/laterals", laterals)


def test_shards_with_another_split_are_refused(hub: CountingHub) -> None:
    sha = _pushed_shards("chex/extra", [_shard_row(1, "PA")], split="extra")
    with pytest.raises(UsageError, match="has the split 'extra'"):
        _read("chex/extra", sha)


def test_laterals_by_a_column_of_views_are_left_out(hub: CountingHub, tmp_path: Path) -> None:
    columns = {"image": data.IMAGE, "labels": data.STRING, "view": data.STRING}
    rows = [
        {"image": data.image(i), "labels": label, "view": view}
        for i, (label, view) in enumerate([("mass", "LATERAL"), ("effusion", "pa"), ("mass", ""), ("mass", "LL")])
    ]
    sha = data.push("chex/sides", {"train.parquet": data.parquet(columns, rows)})
    label_map = _map(tmp_path, **LIST, view=["view"])
    release = _read("chex/sides", sha, label_map)
    assert [found.member for found in release.index.images] == ["train/0/1", "train/0/2"]
    assert _values(release) == [(0, 1), (1, 0)]
    assert release.left_out == (("lateral view; --views all keeps them", 2),)
    everything = read_hub(Reading(f"hub:chex/sides@{sha}", label_map=label_map, views="all"))
    assert [everything.entries[found.name].view for found in everything.index.images] == ["L", "PA", None, "L"]
