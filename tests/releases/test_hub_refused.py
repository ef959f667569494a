"""Datasets on the Hub that cannot be read are one-line errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chexvision.cli import main
from chexvision.errors import ChexError, UsageError
from chexvision.releases.from_hub.hub_dataset import read_hub
from chexvision.releases.release import Reading
from chexvision.shards.build import build_shards
from tests.releases import hub_data as data
from tests.releases.built import OPTIONS
from tests.shards.pushed import CountingHub


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
        data.read("chex/tiny", tiny)


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
    "pickles": ({"train.pkl": b"\x80\x04K\x01."}, {}, "has no data files|in the format pandas, not Parquet"),
    "a table": ({"train.csv": b"labels\nmass\n"}, {}, "in the format csv, not Parquet or .*; download it"),
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
        data.read(f"chex/{name}", sha, data.label_map(tmp_path, **data.LIST | keys))
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
        read_hub(Reading(f"hub:{name.format(sha=tiny)}", label_map=data.label_map(tmp_path, **data.PERSON)))
    assert "\n" not in str(caught.value)


def test_paths_of_this_computer_and_of_other_servers_are_not_followed(hub: CountingHub, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(data.png(1))
    paths = [str(secret), f"file://{secret}", "https://localhost/x.png", "hf://datasets/chex/other@main/x.png"]
    values = [*({"bytes": None, "path": path} for path in paths), None, {"bytes": b"", "path": None}]
    images = [*map(data.image, range(20)), *values]
    rows = [{"image": value, "labels": "mass", "person": f"{i}"} for i, value in enumerate(images)]
    sha = data.push("chex/paths", {"train.parquet": data.parquet(USUAL, rows)})
    options = OPTIONS(dataset=f"hub:chex/paths@{sha}", label_map=data.label_map(tmp_path, **data.LIST), max_bad=1.0)
    manifest = build_shards([], None, tmp_path / "out", options)
    assert manifest.images == 20
    assert [image.reason for image in manifest.bad] == ["it has no bytes"] * 5 + [
        "not a readable PNG, JPEG or DICOM file"
    ]
