"""What a published model says about itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from chexvision import CheXVision, load_predictor
from chexvision.errors import ChexError
from chexvision.hub.reference import RepoRef
from chexvision.predict.operating_files import save_operating_points
from chexvision.predict.published import read_published, sha256_of_folder
from tests.fakes.fixtures import hub_here
from tests.fakes.hub import FakeHub
from tests.predict.tiny_model import points_of, publish

RUN_ID = "tiny-20260101-0000-abcd"


def test_a_folder_is_named_by_its_own_name_and_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = publish(tmp_path / "mine", synthetic=True)
    monkeypatch.chdir(folder)
    for facts in (read_published(folder).facts, read_published(Path()).facts):
        assert (facts.model, facts.revision, facts.run_id) == ("mine", RUN_ID, RUN_ID)
        assert facts.synthetic and facts.calibrated and facts.rule == "f1 on validation"


def test_files_that_a_model_lacks_are_left_out(tmp_path: Path) -> None:
    published = read_published(publish(tmp_path / "bare", bare=True))
    assert published.points.calibration is None and published.points.thresholds is None and published.check is None
    facts = published.facts
    assert (facts.revision, facts.synthetic, facts.calibrated, facts.rule) == (None, False, False, "")


def test_records_of_the_first_formats_are_read(tmp_path: Path) -> None:
    folder = publish(tmp_path / "old")
    (folder / "metrics.json").write_text(json.dumps({"drawn": True, "dataset": "d"}))
    (folder / "run.json").write_text(json.dumps({"recipe": {}}))
    facts = read_published(folder).facts
    assert facts.synthetic and facts.run_id is None


def test_everything_of_a_model_on_the_hub_is_of_one_commit(tmp_path: Path) -> None:
    with hub_here(tmp_path / "hub", FakeHub):
        api = HfApi()
        api.create_repo("chex/model")
        first = api.upload_folder(repo_id="chex/model", folder_path=publish(tmp_path / "a")).oid
        api.upload_folder(repo_id="chex/model", folder_path=publish(tmp_path / "b", seed=1, synthetic=True))
        published = read_published(RepoRef("chex/model", first))
        assert (published.facts.model, published.facts.revision) == ("chex/model", first)
        assert not published.facts.synthetic
        newest = CheXVision.from_pretrained("chex/model").published
        assert newest is not None and newest.facts.synthetic and newest.facts.revision != first
        assert load_predictor(f"chex/model@{first}").facts == published.facts


def test_a_calibration_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = publish(tmp_path / "m", bare=True)
    save_operating_points(points_of(("Fracture", "Opacity", "Abnormal")), folder)
    for load in (load_predictor, CheXVision.from_pretrained):
        with pytest.raises(ChexError, match="does not name Atelectasis: it belongs to another model"):
            load(folder)


def test_a_folder_is_identified_by_what_answers_depend_on(tmp_path: Path) -> None:
    folder = publish(tmp_path / "m")
    before = sha256_of_folder(folder)
    (folder / "README.md").write_text("a card")
    assert sha256_of_folder(folder) == before
    (folder / "thresholds.json").write_text((folder / "thresholds.json").read_text().replace("0.3", "0.4"))
    assert sha256_of_folder(folder) != before
