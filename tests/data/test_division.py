"""Checks of a session's data before it creates, downloads or computes anything."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from huggingface_hub import HfApi

from chexvision.cli import main
from chexvision.data.division import check_data, division_of
from chexvision.data.source import find_shards
from chexvision.errors import ChexError, UsageError
from chexvision.hub.reference import RepoRef
from chexvision.recipes import load_recipe
from chexvision.shards.columns import folder_place
from chexvision.shards.info import describe, lines
from chexvision.shards.remote import hub_place, list_files
from tests.fakes.fixtures import hub_here
from tests.shards.published import generated_images, write_published
from tests.shards.pushed import CountingHub

DATA = "chex/published"
CONFIG = load_recipe("densenet").data


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards in the published form. Read only."""
    return write_published(tmp_path_factory.mktemp("published") / "shards", generated_images())


@pytest.fixture
def hub(tmp_path: Path, waits: list[float]) -> Iterator[CountingHub]:
    with hub_here(tmp_path / "hub", CountingHub) as hub:
        yield hub


def uploaded(folder: Path) -> RepoRef:
    HfApi().create_repo(DATA, repo_type="dataset")
    return RepoRef(DATA, HfApi().upload_folder(repo_id=DATA, folder_path=folder, repo_type="dataset").oid)


def test_a_hub_dataset_is_split_before_any_shard_is_downloaded(hub: CountingHub, published: Path) -> None:
    reference = uploaded(published)
    size = sum(path.stat().st_size for path in (published / "data").iterdir())
    hub.sent = 0
    found = check_data(reference, CONFIG)
    assert 0 < hub.sent < 0.2 * size
    assert not any(".parquet" in unquote(r.path) and "/resolve/" in r.path and r.status == 200 for r in hub.requests)
    assert (found.record.rule, found.record.validation_share) == ("official", 0.05)
    assert {name: part.patients for name, part in found.record.parts.items()} == {
        "train": 24,
        "validation": 5,
        "test": 5,
    }
    assert not set(found.rows["train"].patients.tolist()) & set(found.rows["validation"].patients.tolist())
    # After the download, and from the cache, the same.
    assert division_of(find_shards(reference), CONFIG).record == found.record
    before = len(hub.requests)
    assert check_data(reference, CONFIG).record == found.record
    assert not any(".parquet" in unquote(record.path) for record in hub.requests[before:])
    assert check_data(published, CONFIG).record == found.record


@pytest.mark.parametrize(
    ("overrides", "code", "message"),
    [
        (("data.split=shards",), 1, "is in both train and validation"),
        (("data.validation_share=0.00001",), 2, "has no validation images; raise data.validation_share"),
        (("data.split=none.csv",), 2, "split none.csv: there is no such file"),
    ],
)
def test_an_impossible_split_ends_the_session_before_anything_is_created(
    hub: CountingHub,
    published: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    overrides: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    reference = uploaded(published)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "chexvision.training.run", None)  # must not be imported
    words = ["train", "--model", "densenet", "--data", str(reference), "--to", "chex/model", "--work", "work"]
    for override in overrides:
        words += ["--set", override]
    hub.sent = 0
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(words)
    error = capsys.readouterr().err
    assert ended.value.code == code
    assert message in error
    assert error.count("\n") == 1
    assert ("model", "chex/model") not in hub.repos
    assert not (tmp_path / "work").exists()
    assert hub.sent < 0.2 * sum(path.stat().st_size for path in (published / "data").iterdir())


def test_an_unknown_label_is_found_over_the_network(hub: CountingHub, tmp_path: Path) -> None:
    images = generated_images(train=4, validation=2, test=2, side=8)
    images["00000001_000.png"] = (images.popitem()[1][0], "Broken Rib")
    reference = uploaded(write_published(tmp_path / "shards", images))
    with pytest.raises(ChexError, match=r"data/train-0000.-of-00002.parquet: unknown finding 'Broken Rib'"):
        check_data(reference, CONFIG)


def test_synthetic_shards_keep_their_splits_without_a_message(synthetic_shards: Path) -> None:
    found = check_data(synthetic_shards, CONFIG)
    assert found.record.rule == "shards"
    with pytest.raises(UsageError, match="these images are synthetic"):
        check_data(synthetic_shards, load_recipe("densenet", overrides=["data.split=chexnet"]).data)


def test_a_split_does_not_depend_on_the_training_seed(published: Path) -> None:
    first, second = (
        check_data(published, load_recipe("densenet", overrides=[f"training.seed={seed}", "data.split=patient"]).data)
        for seed in (1, 2)
    )
    assert first.record == second.record
    assert first.record.rule == "patient"


def test_sampling_is_applied_after_the_split(published: Path) -> None:
    recipe = load_recipe("densenet", overrides=["data.max_train_images=20"])
    found = check_data(published, recipe.data)
    sampled = found.sampled(recipe.data, 0)
    assert len(sampled["train"]) <= 20 < found.record.parts["train"].images
    assert np.array_equal(sampled["test"].filenames, found.rows["test"].filenames)


def test_a_fraction_of_the_training_patients_leaves_the_other_splits(published: Path) -> None:
    data = load_recipe("densenet", overrides=["data.train_fraction=0.25"]).data
    found = check_data(published, data)
    sampled = found.sampled(data, 0)
    patients = [len(np.unique(rows["train"].patients)) for rows in (sampled, found.rows)]
    assert patients[0] == round(0.25 * patients[1])
    assert len(sampled["validation"]) == len(found.rows["validation"])
    half = len(sampled["train"]) // 2
    limited = found.sampled(data.model_copy(update={"max_train_images": half}), 0)["train"]
    assert len(limited) <= half
    assert set(limited.filenames.tolist()) < set(sampled["train"].filenames.tolist())


def test_info_reports_which_patients_the_splits_share(
    hub: CountingHub, published: Path, synthetic_shards: Path
) -> None:
    reference = uploaded(published)
    here, there = describe(folder_place(published)), describe(hub_place(reference, list_files(reference)))
    assert here.shared == there.shared
    (shared,) = here.shared
    assert shared.splits == ("train", "validation")
    text = "\n".join(lines(there))
    assert f"train and validation share {shared.patients} patients, who have {shared.images} of the" in text
    assert "data.split=official (the default)" in text
    assert lines(describe(folder_place(synthetic_shards)))[-1] == "no patient is in two splits"
