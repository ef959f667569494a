"""Where a session finds the data sources that Kaggle attached."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chexvision.errors import ChexError
from chexvision.runs.mounts import attached_dataset, attached_files

MOUNTS = ["data", "datasets/nih-chest-xrays/data", "datasets/organizations/nih-chest-xrays/data"]


@pytest.mark.parametrize("mount", MOUNTS)
def test_dataset_is_found_in_each_layout(tmp_path: Path, mount: str) -> None:
    (tmp_path / mount).mkdir(parents=True)
    assert attached_dataset(tmp_path, "nih-chest-xrays/data") == tmp_path / mount


def test_dataset_of_the_same_name_but_another_owner_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "datasets" / "chex" / "data").mkdir(parents=True)
    with pytest.raises(ChexError, match="nih-chest-xrays/data is not attached to this session"):
        attached_dataset(tmp_path, "nih-chest-xrays/data")


@pytest.mark.parametrize("mount", [*MOUNTS, "notebooks/chex/run"])
def test_file_at_the_top_of_a_data_source_is_found_in_each_layout(tmp_path: Path, mount: str) -> None:
    (tmp_path / mount / "deeper").mkdir(parents=True)
    for folder in (mount, f"{mount}/deeper"):
        (tmp_path / folder / "progress.json").touch()
    assert attached_files(tmp_path, "progress.json") == [tmp_path / mount / "progress.json"]


def test_source_mounted_twice_counts_once(tmp_path: Path) -> None:
    newest = tmp_path / "datasets" / "chex" / "own"
    newest.mkdir(parents=True)
    (newest / "a.txt").touch()
    (tmp_path / "own").symlink_to(newest)
    assert attached_files(tmp_path, "a.txt") == [newest / "a.txt"]


def test_symlink_out_of_a_source_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").touch()
    (tmp_path / "input" / "set").mkdir(parents=True)
    (tmp_path / "input" / "set" / "a.txt").symlink_to(tmp_path / "secret.txt")
    assert attached_files(tmp_path / "input", "a.txt") == []


@pytest.mark.parametrize("mount", MOUNTS)
def test_folders_inside_a_data_source_are_never_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mount: str
) -> None:
    """Those of the release hold 112,120 images on a slow disk."""
    images = tmp_path / mount / "images_001" / "images"
    images.mkdir(parents=True)
    listed: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))  # type: ignore[func-returns-value]
    attached_files(tmp_path, "progress.json")
    assert listed
    assert not [path for path in listed if Path(path).is_relative_to(tmp_path / mount / "images_001")]
