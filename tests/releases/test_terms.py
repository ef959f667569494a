"""What the terms of a dataset forbid is refused, and its card states them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi

from chexvision.errors import UsageError
from chexvision.label_maps.label_map import label_map_path
from chexvision.releases.sets import SETS
from chexvision.releases.terms import check_private
from chexvision.shards.build import build_shards
from chexvision.shards.dataset_card import render_card
from chexvision.shards.manifest import read_manifest
from tests.fakes.fixtures import hub_here
from tests.fakes.hub import FakeHub
from tests.present import present
from tests.releases.built import OPTIONS
from tests.releases.conftest import run

REPO = "chex/padchest"


@pytest.fixture(scope="module")
def shards(originals: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of a credentialed set; read only."""
    out = tmp_path_factory.mktemp("terms") / "shards"
    build_shards([originals("padchest")], None, out, OPTIONS(dataset="padchest"))
    return out


@pytest.fixture
def hub(tmp_path: Path, waits: list[float]) -> Iterator[FakeHub]:
    with hub_here(tmp_path / "hub", FakeHub) as hub:
        yield hub


def changes(hub: FakeHub) -> list[str]:
    return [f"{record.method} {record.path}" for record in hub.requests if record.method != "GET"]


def error(capsys: pytest.CaptureFixture[str]) -> str:
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    return said[0]


def test_a_credentialed_set_is_not_pushed_in_public(
    shards: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("push", shards, "--repo", REPO) == 2
    assert "--repo: the terms of PadChest do not allow to publish its images (https://" in error(capsys)
    assert hub.requests == []


def test_nor_to_a_dataset_that_is_public_already(
    shards: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    HfApi().create_repo(REPO, repo_type="dataset")
    before = changes(hub)
    assert run("push", shards, "--repo", REPO, "--private") == 2
    assert f"{REPO} exists and is public, --private does not change that, and nothing was sent" in error(capsys)
    assert [change for change in changes(hub)[len(before) :] if "repos/create" not in change] == []


def test_it_is_pushed_to_a_private_one(shards: Path, hub: FakeHub) -> None:
    assert run("push", shards, "--repo", REPO, "--private") == 0
    assert hub.is_private(REPO, "dataset")
    assert json.loads(hub.read(REPO, "manifest.json", repo_type="dataset"))["dataset"]["name"] == "padchest"


@pytest.mark.parametrize("exists", [False, True])
def test_a_build_is_refused_before_it_begins(
    exists: bool, originals: Callable[[str], Path], hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--set", "padchest", "--images", originals("padchest"), "--work", tmp_path / "work", "--to", REPO)
    if exists:
        HfApi().create_repo(REPO, repo_type="dataset")
    assert run("build", *words, *(["--private"] if exists else [])) == 2
    assert ("exists and is public" if exists else "--to: the terms of PadChest do not allow") in error(capsys)
    assert not (tmp_path / "work").exists()
    assert not any("upload" in change or "commit" in change or "branch" in change for change in changes(hub))


def test_a_build_to_a_private_dataset_is_pushed(
    originals: Callable[[str], Path], hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--set", "padchest", "--images", originals("padchest"), "--size", 32, "--work", tmp_path / "work")
    assert run("build", *words, "--to", REPO, "--private") == 0
    assert f"published: {REPO}@" in capsys.readouterr().out and hub.is_private(REPO, "dataset")


def test_terms_found_while_the_release_is_read_are_checked_too(
    originals: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="the terms of PadChest do not allow"):
        build_shards(
            [originals("padchest")], None, tmp_path / "out", replace(OPTIONS(dataset="padchest"), public=True)
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("copied", [False, True])
def test_a_credentialed_set_is_not_read_as_ones_own(
    copied: bool, originals: Callable[[str], Path], tmp_path: Path
) -> None:
    root = originals("padchest")
    label_map = str(label_map_path("padchest")) if copied else "padchest"
    chosen = replace(OPTIONS(dataset="csv", label_map=label_map), public=True)
    table = tmp_path / "own.csv"
    table.write_text(next(root.glob("*.csv")).read_text().replace(", ' normal'", ""))
    with pytest.raises(UsageError, match="the terms of PadChest do not allow"):
        build_shards([root], table, tmp_path / "out", chosen)
    assert not (tmp_path / "out").exists()


def test_open_sets_and_own_images_may_be_public() -> None:
    check_private(SETS["nih"].terms, "--to", private=False)
    check_private(None, "--to", private=False)


def test_the_card_states_the_terms(shards: Path) -> None:
    manifest = present(read_manifest(shards))
    _, head, text = (shards / "README.md").read_text().split("---\n", 2)
    card, terms = yaml.safe_load(head), present(SETS["padchest"].terms)
    assert card["license"] == "other" and card["license_name"] == terms.license_name
    assert card["license_link"] == terms.license_link and card["pretty_name"] == "PadChest 32²"
    assert {"name": "study_id", "dtype": "int64"} in card["dataset_info"]["features"]
    assert "**Keep this dataset private.**" in text and terms.citation in text
    assert "images: lateral view" in text and "NIH" not in text
    hostile = replace(terms, homepage="x`](y) <script>", license_link="<img>\n# Heading")
    changed = replace(manifest, dataset=replace(present(manifest.dataset), terms=hostile))
    body = render_card(changed).split("---\n", 2)[2]
    assert "\n# Heading" not in body and "``x`](y) <script>``" in body


def test_manifests_of_earlier_formats_are_read(shards: Path, tmp_path: Path) -> None:
    tree = json.loads((shards / "manifest.json").read_text())
    del tree["dataset"], tree["left_out"]
    (tmp_path / "manifest.json").write_text(json.dumps(tree | {"format": 2}))
    manifest = present(read_manifest(tmp_path))
    assert (manifest.format, manifest.dataset, manifest.left_out) == (3, None, ())
    assert "Chest radiographs" in render_card(manifest)
