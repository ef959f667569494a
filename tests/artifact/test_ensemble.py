"""Ensembles: made from the probabilities that runs publish, published as one artifact, and used like a model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as parquet
import pytest
from accelerate import Accelerator
from huggingface_hub import HfApi

from chexvision.artifact.contents import CARD, METRICS, PROBABILITIES
from chexvision.artifact.load import load_ensemble, load_model
from chexvision.artifact.metrics_file import read_metrics
from chexvision.artifact.probabilities import Probabilities
from chexvision.artifact.store import open_store
from chexvision.cli import main
from chexvision.data.division import check_data
from chexvision.data.rows import Rows
from chexvision.data.source import find_shards
from chexvision.errors import ChexError, PublishError, UsageError
from chexvision.evaluation.computing import OnThisMachine
from chexvision.evaluation.evaluate import evaluate
from chexvision.evaluation.outcome import Options
from chexvision.hub.reference import RepoRef, parse_reference
from chexvision.images.radiograph import decode_grey
from chexvision.inference.load_predictor import load_predictor
from chexvision.inference.predict_members import predict_members
from chexvision.inference.stored_predictions import labeled_as_stored, stored_predictions
from chexvision.inference.torch_engine import TorchEngine
from chexvision.labels import NIH
from chexvision.metrics.operating_points import OperatingPoints
from chexvision.metrics.predictions import Predictions, images_sha256
from chexvision.metrics.records import IntervalMethod
from chexvision.models.classifier import CheXVision
from chexvision.predict.input_check import FILE as INPUT_CHECK
from chexvision.predict.published import read_published
from chexvision.recipes import load_recipe
from chexvision.report.ensemble_artifact import assemble_ensemble
from chexvision.shards.download import cached_shards
from chexvision.shards.push import push_shards
from tests.artifact.members import published_members
from tests.fakes.fixtures import hub_here
from tests.fakes.hub import FakeHub

REPO = "chex/ensemble"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """Shards, and two models that were trained on them. Read only."""
    return published_members(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def shards(runs: tuple[Path, list[Path]]) -> Path:
    return runs[0]


@pytest.fixture(scope="module")
def members(runs: tuple[Path, list[Path]]) -> list[Path]:
    return runs[1]


@pytest.fixture(scope="module")
def ensemble(members: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both models with weights fitted on validation. Read only."""
    folder = tmp_path_factory.mktemp("ensemble") / "published"
    published = assemble_ensemble(members, folder, weights="validation")
    assert published.reference == str(folder)
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "chest.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8))
    return path


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    with hub_here(tmp_path / "hub", FakeHub) as hub:
        yield hub


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_a_run_publishes_what_its_weights_predict(shards: Path, members: list[Path]) -> None:
    stored = Probabilities.read(members[1] / PROBABILITIES)
    source = find_shards(shards)
    rows = check_data(shards, load_recipe("scratch", overrides=["data.split=shards"]).data).rows
    assert stored.dataset_identity == source.identity
    assert list(stored.by_split) == ["validation", "test"]
    accelerator = Accelerator(cpu=True)
    for split, found in stored.by_split.items():
        predicted = predict_members(load_ensemble(members[1]), source, rows[split], accelerator, 16)
        np.testing.assert_allclose(found, predicted, atol=1e-6)
        assert stored.images_sha256[split] == images_sha256(rows[split].filenames)
    content = (members[1] / PROBABILITIES).read_bytes()
    assert rows["test"].filenames[0].encode() not in content


def test_an_ensemble_is_made_without_torch() -> None:
    code = "import sys, chexvision.report.ensemble_artifact; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_ensemble_predicts_the_calibrated_weighted_mean(ensemble: Path, members: list[Path], image: Path) -> None:
    loaded = load_predictor(ensemble)
    points = loaded.points
    weights = [member["weight"] for member in json.loads((ensemble / "ensemble.json").read_text())["members"]]
    assert load_ensemble(ensemble).weights == tuple(weights)
    assert points.calibration is not None and points.thresholds is not None
    alone = [replace(load_predictor(member), points=OperatingPoints()).predict(image) for member in members]
    raw = np.array([[*of.probabilities.values()] for of in alone])
    assert np.abs(raw[0] - raw[1]).max() > 1e-3
    mean = np.asarray(weights) @ raw
    found = loaded.predict(image)
    expected = points.calibration.apply(tuple(found.probabilities), mean[None])[0]
    np.testing.assert_allclose([*found.probabilities.values()], expected, atol=1e-9)
    assert found.calls


def test_the_published_metrics_are_those_that_evaluate_measures(
    ensemble: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["--data", shards, "--out", out, "--choose-on", "model", "--resamples", "100", "--precision", "fp32"]
    code, _, error = run(capsys, "evaluate", ensemble, *words, "--tta", "flip")
    assert code == 0, error
    published, measured = read_metrics(ensemble / "metrics.json"), read_metrics(out / "metrics.json")
    assert [system.name for system in published.systems] == ["run-0", "run-1", "ensemble of 2"]
    assert [system.name for system in measured.systems] == ["published", "published + flip"]
    alone = measured.systems[0].metrics
    assert alone.macro_auroc == pytest.approx(published.metrics.macro_auroc, abs=1e-9)
    assert alone.macro["f1"].value == pytest.approx(published.metrics.macro["f1"].value)
    assert measured.metrics.macro_auroc != alone.macro_auroc
    assert "thresholds and calibration of the models were chosen without flip" in measured.notes
    assert measured.overlaps[0].trained_images == 0
    assert published.subgroups


def test_predict_notes_that_calibration_was_chosen_without_augmentation(
    ensemble: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = run(capsys, "predict", ensemble, image, "--json")
    code, said, error = run(
        capsys, "predict", ensemble, image, "--json", "--tta", "ten-crop", "--explain", image.parent / "maps"
    )
    assert code == 0
    assert f"note: calibration and thresholds of {ensemble} were chosen without ten-crop" in error
    assert "note: the maps are of the image alone, without ten-crop" in error
    assert said != plain[1] and "note" not in plain[2]


def test_members_are_complete_models_of_their_own(ensemble: Path, members: list[Path]) -> None:
    for number, member in enumerate(members, 1):
        ours, theirs = load_model(ensemble / "members" / str(number)), load_model(member)
        assert ours.preprocessing == theirs.preprocessing
        assert all((a == b).all() for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_an_ensemble_is_published_in_one_commit_and_fetched_whole(
    hub: FakeHub, members: list[Path], image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, error = run(capsys, "ensemble", *members, "--to", REPO)
    assert code == 0, error
    reference = said.splitlines()[-1]
    (tag,) = hub.tags(REPO)
    assert reference == f"{REPO}@{hub.tags(REPO)[tag]}"
    assert [commit.title for commit in hub.commits(REPO)] == [f"Publish run {tag}", "initial commit"]
    assert run(capsys, "ensemble", *members, "--to", REPO)[1] == said  # again changes nothing
    assert len(hub.commits(REPO)) == 2
    online = run(capsys, "predict", f"{REPO}@{tag}", image, "--json")
    assert run(capsys, "pull", f"{REPO}@{tag}", "--out", tmp_path / "pulled")[0] == 0
    pulled = run(capsys, "predict", tmp_path / "pulled", image, "--json")
    assert json.loads(pulled[1])[0]["probabilities"] == json.loads(online[1])[0]["probabilities"]
    with pytest.raises(ChexError, match="is an ensemble of models; load it with"):
        CheXVision.from_pretrained(REPO, revision=tag)
    assert load_ensemble(RepoRef(REPO, tag)).weights == (0.5, 0.5)
    card = (tmp_path / "pulled" / "README.md").read_text()
    assert f"chexvision predict {REPO}@{tag} chest.png" in card
    assert "run run-0" in card and str(tmp_path) not in card


def test_members_without_probabilities_need_shards_to_predict(
    ensemble: Path, members: list[Path], shards: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(members[1], old, ignore=shutil.ignore_patterns(".revisions", PROBABILITIES))
    with pytest.raises(UsageError, match=r"without probabilities\.npz; name the shards to predict with --data"):
        assemble_ensemble([members[0], old], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assemble_ensemble([members[0], old], tmp_path / "out", weights="validation", data=shards)
    made, expected = (read_metrics(folder / "metrics.json") for folder in (tmp_path / "out", ensemble))
    assert made.metrics.macro_auroc == pytest.approx(expected.metrics.macro_auroc, abs=1e-6)
    assert made.systems[-1].weights == pytest.approx(expected.systems[-1].weights, abs=1e-3)


def test_labels_of_a_dataset_on_the_hub_are_read_without_its_images(
    hub: FakeHub, ensemble: Path, members: list[Path], shards: Path, tmp_path: Path
) -> None:
    data = push_shards(shards, "chex/shards", private=False)
    copies = []
    for member in members:
        copy = tmp_path / member.name
        shutil.copytree(member, copy, ignore=shutil.ignore_patterns(".revisions"))
        for name in ("run.json", "metrics.json"):
            record = json.loads((copy / name).read_text()) | {"dataset": str(data)}
            (copy / name).write_text(json.dumps(record))
        copies.append(copy)
    assemble_ensemble(copies, tmp_path / "out", weights="validation")
    assert not cached_shards(data)
    made, expected = (read_metrics(folder / "metrics.json") for folder in (tmp_path / "out", ensemble))
    assert made.metrics.findings == expected.metrics.findings
    assert (made.dataset, made.subgroups) == (str(data), ())
    assert json.loads((tmp_path / "out" / "ensemble.json").read_text())["dataset"] == str(data)


def test_sampled_validation_images_are_those_that_all_members_have(members: list[Path], tmp_path: Path) -> None:
    sampled = tmp_path / "sampled"
    shutil.copytree(members[1], sampled, ignore=shutil.ignore_patterns(".revisions"))
    run_file = json.loads((sampled / "run.json").read_text())
    run_file["recipe"]["data"]["max_validation_images"] = 40
    (sampled / "run.json").write_text(json.dumps(run_file))
    division = stored_predictions(["a", "b"], members).division
    recipe = load_recipe("scratch", overrides=["data.split=shards", "data.max_validation_images=40"])
    rows = division.sampled(recipe.data, 1)["validation"]
    kept = np.isin(division.rows["validation"].filenames, rows.filenames)
    stored = Probabilities.read(members[1] / PROBABILITIES)
    changed = Probabilities(
        stored.dataset_identity,
        stored.label_space,
        {**stored.images_sha256, "validation": images_sha256(rows.filenames)},
        {**stored.by_split, "validation": stored.by_split["validation"][kept]},
    )
    changed.write(sampled / PROBABILITIES)
    found = stored_predictions(["a", "b"], [members[0], sampled])
    first, second = (of["validation"] for of in found.predictions)
    assert first.filenames.tolist() == second.filenames.tolist() == rows.filenames.tolist()
    assert len(found.predictions[0]["test"]) == 60


def test_members_that_cannot_be_one_model_are_refused(ensemble: Path, members: list[Path], tmp_path: Path) -> None:
    first, second = members
    with pytest.raises(UsageError, match="is named twice"):
        assemble_ensemble([first, first], tmp_path / "out")
    with pytest.raises(UsageError, match="is named twice"):
        assemble_ensemble([first, first / ".." / first.name], tmp_path / "out")
    with pytest.raises(UsageError, match="an ensemble has 2 to 64"):
        assemble_ensemble([first], tmp_path / "out")
    with pytest.raises(UsageError, match="is an ensemble; name its members"):
        assemble_ensemble([first, ensemble], tmp_path / "out")
    with pytest.raises(UsageError, match="is one of the members"):
        assemble_ensemble(members, first)
    with pytest.raises(UsageError, match="is one of the members"):
        assemble_ensemble(members, first / ".." / first.name)
    other = tmp_path / "other"
    shutil.copytree(second, other, ignore=shutil.ignore_patterns(".revisions"))
    stored = Probabilities.read(other / PROBABILITIES)
    Probabilities("1" * 64, stored.label_space, stored.images_sha256, stored.by_split).write(other / PROBABILITIES)
    with pytest.raises(UsageError, match="measured on different data; name the shards with --data"):
        assemble_ensemble([first, other], tmp_path / "out")
    config = json.loads((other / "config.json").read_text())
    config["label_space"]["findings"][0] = "Mass"
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="members of an ensemble predict the same findings"):
        assemble_ensemble([first, other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _changed(ensemble: Path, folder: Path, **changes: Any) -> Path:
    shutil.copytree(ensemble, folder, ignore=shutil.ignore_patterns(".revisions"))
    info = json.loads((folder / "ensemble.json").read_text())
    (folder / "ensemble.json").write_text(json.dumps(info | changes))
    return folder


def _member(weight: float, **changes: Any) -> dict[str, Any]:
    return {
        "reference": "a", "run_id": None, "recipe": None, "seed": None, "backbone": "tiny", "image_size": 32,
        "weight": weight, **changes,
    }  # fmt: skip


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "a path": ({"members": [_member(0.5, folder="../../x"), _member(0.5)]}, "Extra inputs are not permitted"),
    "thousands": ({"members": [_member(0.0005)] * 2000}, "at most 64 items"),
    "one": ({"members": [_member(1)]}, "at least 2 items"),
    "weights": ({"members": [_member(0.5), _member(0.6)]}, "weights sum to 1.1 instead of 1"),
    "negative": ({"members": [_member(-0.5), _member(1.5)]}, "greater than or equal to 0"),
    "more than there are": ({"members": [_member(0.25)] * 4}, "members/3 has no config.json"),
    "later format": ({"format": 2}, "Input should be 1"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_damaged_or_hostile_ensemble_is_refused_in_one_line(
    kind: str, ensemble: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, problem = HOSTILE[kind]
    code, _, error = run(capsys, "predict", _changed(ensemble, tmp_path / "hostile", **changes), image)
    assert code == 1
    assert problem in error
    assert error.count("\n") == 1 and error.startswith("error: ")


def test_a_cyclic_ensemble_is_refused(
    ensemble: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _changed(ensemble, tmp_path / "hostile")
    shutil.rmtree(folder / "members" / "2")
    (folder / "members" / "2").symlink_to(folder)
    code, _, error = run(capsys, "predict", folder, image)
    assert (code, error.count("\n")) == (1, 1)
    assert "members/2 has no config.json; the ensemble is incomplete" in error


@pytest.mark.parametrize("where", ["hub", "folder"])
def test_an_ensemble_is_not_published_next_to_a_model_of_somebody(
    where: str, members: list[Path], hub: FakeHub, tmp_path: Path
) -> None:
    config = members[0] / "config.json"
    to = RepoRef(REPO) if where == "hub" else tmp_path / "out"
    if isinstance(to, RepoRef):
        api = HfApi()
        api.create_repo(REPO)
        api.upload_file(path_or_fileobj=config, path_in_repo="config.json", repo_id=REPO)
    else:
        to.mkdir()
        shutil.copy(config, to)
    with pytest.raises(PublishError, match=r"config\.json, which no run published, would be loaded instead"):
        assemble_ensemble(members, to)
    if isinstance(to, RepoRef):
        api.delete_file("config.json", REPO)
    else:
        (to / "config.json").unlink()
    assert len(load_ensemble(parse_reference(assemble_ensemble(members, to).reference)).members) == 2


def test_members_of_other_findings_are_refused_at_loading(ensemble: Path, tmp_path: Path) -> None:
    folder = _changed(ensemble, tmp_path / "hostile")
    config = json.loads((folder / "members" / "2" / "config.json").read_text())
    config["label_space"]["findings"][0] = "Mass"
    (folder / "members" / "2" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ChexError, match="members/2 predicts other findings than members/1"):
        load_predictor(folder)


def test_an_incomplete_ensemble_is_not_fetched(ensemble: Path, tmp_path: Path) -> None:
    folder = _changed(ensemble, tmp_path / "incomplete")
    (folder / "metrics.json").unlink()
    with pytest.raises(ChexError, match=r"it has no metrics\.json"):
        open_store(folder).fetch(None, tmp_path / "out")


def test_stored_probabilities_are_those_of_the_images_whatever_the_order_of_the_rows(tmp_path: Path) -> None:
    names = np.array(["b.png", "c.png", "a.png"])
    values = np.array([0.2, 0.3, 0.1])
    findings = np.zeros((3, len(NIH.findings)), np.float32)
    targets = np.zeros((3, len(NIH.outputs)))
    patients = np.arange(3)
    made = Predictions(NIH.outputs, names, patients, np.tile(values[:, None], len(NIH.outputs)), targets)
    Probabilities.of("0" * 64, NIH, {"test": made}).write(tmp_path / PROBABILITIES)
    stored = Probabilities.read(tmp_path / PROBABILITIES)
    rows = Rows(names, findings, patients, np.zeros(3, np.int32), np.arange(3))
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        found = labeled_as_stored("a", "test", rows.take(np.array(order)), stored)
        assert found.filenames.tolist() == names[order].tolist()
        assert np.allclose(found.probabilities[:, 0], values[order])


def test_an_ensemble_has_the_input_check_of_its_first_member(ensemble: Path, members: list[Path]) -> None:
    first, second = ((member / INPUT_CHECK).read_bytes() for member in members)
    assert (ensemble / INPUT_CHECK).read_bytes() == first != second
    result, own = (read_metrics(folder / METRICS).input_check for folder in (ensemble, members[0]))
    assert own is not None and result == own
    assert (own.images, own.patients, own.test_images) == (60, 60, 60)
    line = (
        f"It flags {own.flagged} of the 60 validation images that it was fitted on and {own.test_flagged} of 60 test"
    )
    for folder in (ensemble, members[0]):
        assert line in (folder / CARD).read_text()


def test_the_check_of_a_run_is_of_what_predict_measures(members: list[Path], shards: Path) -> None:
    published = read_published(members[1])
    check, result = published.check, read_metrics(members[1] / METRICS).input_check
    assert check is not None and result is not None
    engine = TorchEngine(load_model(members[1]), "cpu", check=check)
    (shard,) = find_shards(shards).shards["test"]
    images = [decode_grey(one["bytes"]) for one in parquet.read_table(shard)["image"].to_pylist()]
    values = [engine.run([engine.prepare(image)]).checks for image in images]
    assert sum(int(check.flags(of).sum()) for of in values if of is not None) == result.test_flagged


def test_an_ensemble_of_an_older_first_member_has_no_input_check(members: list[Path], tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(members[0], older)
    (older / INPUT_CHECK).unlink()
    assemble_ensemble([older, members[1]], tmp_path / "ensemble")
    assert not (tmp_path / "ensemble" / INPUT_CHECK).exists()
    assert read_metrics(tmp_path / "ensemble" / METRICS).input_check is None
    assert read_published(tmp_path / "ensemble").check is None


@pytest.fixture(scope="module")
def synthetic(members: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second member as if it had been trained on synthetic images."""
    folder = tmp_path_factory.mktemp("synthetic") / "model"
    shutil.copytree(members[1], folder)
    metrics = json.loads((folder / METRICS).read_text()) | {"synthetic": True}
    (folder / METRICS).write_text(json.dumps(metrics))
    return folder


def test_an_ensemble_with_a_member_of_synthetic_images_says_so(
    members: list[Path], synthetic: Path, ensemble: Path, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed"
    assemble_ensemble([members[0], synthetic], mixed)
    assert not read_metrics(mixed / METRICS).synthetic  # of the first one's images
    for folder, expected in ((synthetic, True), (mixed, True), (members[1], False), (ensemble, False)):
        assert read_published(folder).facts.synthetic == expected


def test_an_evaluation_notes_a_model_of_synthetic_images(members: list[Path], synthetic: Path, shards: Path) -> None:
    options = Options(method=IntervalMethod(resamples=100, seed=0))
    names = ["own", "synthetic"]
    found = evaluate(names, [members[0], synthetic], shards, options, OnThisMachine(Accelerator(cpu=True))).evaluation
    note = "synthetic was trained on synthetic images, but measured on radiographs"
    assert [text for text in found.notes if "synthetic images" in text] == [note]
