"""A data set with other findings and uncertain or unknown labels, from shards to an evaluated model."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from chexvision.cli import main
from chexvision.config.data_config import Uncertain
from chexvision.config.recipe import Recipe
from chexvision.data.dataset import targets_of
from chexvision.data.division import check_data
from chexvision.data.rows import read_rows
from chexvision.data.source import find_shards
from chexvision.errors import ChexError, UsageError
from chexvision.inference.predictions_file import read_predictions
from chexvision.labels import NIH, UNCERTAIN, LabelSpace
from chexvision.models.classifier import CheXVision
from chexvision.provenance import Provenance
from chexvision.recipes import load_recipe
from chexvision.shards.columns import folder_place
from chexvision.shards.info import describe, lines
from chexvision.shards.manifest import read_manifest, write_manifest
from chexvision.shards.schema import Columns, arrow_schema
from chexvision.shards.verify import verify_shards
from chexvision.training.run import run_training
from chexvision.training.training_session import TrainingProgress
from tests.label_sets import SMALL, write_small_shards
from tests.training.runs import TINY, figures, tiny_training, weights

AS_THEY_ARE = "data.split=shards"
NAMES = ["Opacity", "Fracture", "Support Devices"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "shards"
    write_small_shards(folder)
    return folder


@pytest.fixture(scope="module")
def published(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of these findings, trained and published to a folder."""
    folder = tmp_path_factory.mktemp("run")
    recipe = load_recipe("scratch", overrides=[*TINY, AS_THEY_ARE, "data.uncertain=smooth"])
    provenance = Provenance(run_id="small-1", source_revision="0", source_dirty=False)
    progress = TrainingProgress(folder / "work", provenance.run_id)
    outcome = run_training(recipe, shards, folder / "work", provenance, progress, folder / "model")
    assert outcome.finished and outcome.metrics is not None
    assert outcome.metrics.published == ()
    return folder / "model"


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_shards_keep_their_label_set_and_all_of_their_labels(shards: Path) -> None:
    assert [check.name for check in verify_shards(shards, sample=0, seed=0, workers=1) if not check.ok] == []
    source = find_shards(shards)
    assert source.label_space == SMALL
    rows = read_rows(source.shards, None, source.label_space)["train"]
    assert rows.findings.shape == (120, 3)
    assert {str(value) for value in np.unique(rows.findings)} == {"0.0", "1.0", "-1.0", "nan"}
    found = describe(folder_place(shards))
    assert list(found.splits["test"].findings) == [*NAMES, "Healthy"]
    assert found.splits["train"].open_labels == {
        name: int((~np.isin(rows.findings[:, i], (0, 1))).sum()) for i, name in enumerate(NAMES)
    }
    assert any(line.startswith("Fracture uncertain or unknown") for line in lines(found))


def test_a_wrong_count_of_unknown_labels_is_found(tmp_path: Path) -> None:
    manifest = write_small_shards(tmp_path / "shards")
    splits = {**manifest.splits, "test": replace(manifest.splits["test"], open_labels={})}
    write_manifest(tmp_path / "shards", replace(manifest, splits=splits))
    checks = verify_shards(tmp_path / "shards", sample=1, seed=0, workers=1)
    assert [check.name for check in checks if not check.ok] == ["counts"]


def test_shards_without_uncertain_labels_have_no_extra_columns(shards: Path, synthetic_shards: Path) -> None:
    assert pq.read_schema(shards / "data" / "test-00000-of-00001.parquet").equals(
        arrow_schema(Columns(open_labels=True))
    )
    for path in (synthetic_shards / "data").glob("*"):
        assert pq.read_schema(path).names == arrow_schema().names
    assert "uncertain" not in arrow_schema().names


def test_shards_read_without_their_label_set_are_refused(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(shards / "data")
    with pytest.raises(ChexError, match="unknown finding"):
        check_data(tmp_path, load_recipe("scratch", overrides=[AS_THEY_ARE]).data)


def test_manifest_of_format_1_is_read_as_nih_with_the_new_source_kind(synthetic_shards: Path, tmp_path: Path) -> None:
    tree = json.loads((synthetic_shards / "manifest.json").read_text())
    assert (tree["format"], tree["source"]["kind"]) == (3, "synthetic")
    del tree["label_space"], tree["dataset"], tree["left_out"]
    for counts in tree["splits"].values():
        del counts["open_labels"]
    old = tree | {"format": 1, "source": {"kind": "drawn", "metadata": None, "metadata_sha256": None}}
    (tmp_path / "manifest.json").write_text(json.dumps(old))
    assert read_manifest(tmp_path) == read_manifest(synthetic_shards)
    for name in ("data", "boxes.csv", "README.md"):
        (tmp_path / name).symlink_to(synthetic_shards / name)
    source = find_shards(tmp_path)
    assert (source.label_space, source.synthetic) == (NIH, True)
    assert [check.name for check in verify_shards(tmp_path, sample=1, seed=0, workers=1) if not check.ok] == []


@pytest.mark.parametrize(
    ("policy", "value", "abnormal"),
    [("ignore", np.nan, np.nan), ("zeros", 0, 0), ("ones", 1, 1), ("smooth", 0.7, 0.7)],
)
def test_a_policy_sets_the_training_target_of_an_uncertain_label(
    policy: Uncertain, value: float, abnormal: float
) -> None:
    findings = np.array([[0, UNCERTAIN], [1, UNCERTAIN], [np.nan, UNCERTAIN], [0, 0], [np.nan, 1], [np.nan, 0]])
    targets = targets_of(findings.astype(np.float32), policy)
    unknown_or_present = 1 if policy == "ones" else np.nan
    expected = [
        [0, value, abnormal],
        [1, value, 1],
        [np.nan, value, unknown_or_present],
        [0, 0, 0],
        [np.nan, 1, 1],
        [np.nan, 0, np.nan],
    ]
    np.testing.assert_array_equal(targets, np.array(expected, np.float32))


def test_a_recipe_without_a_policy_ignores_uncertain_labels() -> None:
    recorded = load_recipe("scratch", overrides=["data.uncertain=ones"]).model_dump(mode="json")
    del recorded["data"]["uncertain"]
    assert Recipe.model_validate_json(json.dumps(recorded)).data.uncertain == "ignore"


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(UsageError, match=r"data\.uncertain"):
        load_recipe("scratch", overrides=["data.uncertain=maybe"])


def test_policy_applies_to_training_and_not_to_metrics(shards: Path, tmp_path: Path) -> None:
    training = tiny_training(shards, tmp_path, AS_THEY_ARE, "data.uncertain=ones")
    uncertain = training.train_split.rows.findings == UNCERTAIN
    assert uncertain.any()
    assert (training.train_split.targets[:, :-1][uncertain] == 1).all()
    uncertain = training.validation_split.rows.findings == UNCERTAIN
    assert np.isnan(training.validation_split.targets[:, :-1][uncertain]).all()


def test_a_stopped_run_resumes_exactly(shards: Path, tmp_path: Path) -> None:
    settings = (AS_THEY_ARE, "data.uncertain=zeros")
    uninterrupted = tiny_training(shards, tmp_path / "one", *settings)
    assert uninterrupted.run()
    steps = itertools.count(1)
    stopped = tiny_training(shards, tmp_path / "two", *settings, should_stop=lambda: next(steps) >= 3)
    assert not stopped.run()
    resumed = tiny_training(shards, tmp_path / "two", *settings)
    assert resumed.run()
    assert figures(resumed.history) == figures(uninterrupted.history)
    first, second = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_training_on_only_unknown_labels_changes_no_weight(tmp_path: Path) -> None:
    write_small_shards(tmp_path / "shards", all_unknown=True)
    training = tiny_training(tmp_path / "shards", tmp_path / "work", AS_THEY_ARE, "optim.weight_decay=0")
    before = {name: value.detach().clone() for name, value in training.model.named_parameters()}
    assert training.run()
    assert all(torch.equal(value, before[name]) for name, value in training.model.named_parameters())
    assert {(record.train_loss, record.validation_loss, record.grad_norm) for record in training.history} == {
        (0, 0, 0)
    }


def test_a_published_model_contains_its_label_set(published: Path) -> None:
    model = CheXVision.from_pretrained(published)
    assert model.label_space == SMALL
    assert model.multilabel_head.out_features == 3
    metrics = (published / "metrics.json").read_text()
    assert all(f'"{name}"' in metrics for name in NAMES)
    assert not any(name in metrics for name in NIH.findings)
    assert list(json.loads((published / "history.json").read_text())[0]["auroc"]) == NAMES
    for name in ("thresholds.json", "calibration.json"):
        record = json.loads((published / name).read_text())
        assert list(record.get("values") or record["curves"]) == [*NAMES, "Abnormal"]
    card = (published / "README.md").read_text()
    assert "3 findings (Opacity, Fracture, Support Devices)" in card
    assert "Uncertain labels, if any, had the target 0.7 in training; all figures leave them out." in card
    assert not any(name in card for name in NIH.findings)


def test_a_published_model_predicts_and_is_evaluated_on_its_own_labels(
    published: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "image.png"
    table = pq.read_table(shards / "data" / "test-00000-of-00001.parquet")
    image.write_bytes(table["image"][0].as_py()["bytes"])
    code, printed, _ = run(capsys, "predict", published, image, "--json")
    assert code == 0
    assert list(json.loads(printed)[0]["probabilities"]) == [*NAMES, "Abnormal"]

    out = tmp_path / "out"
    words = ("--data", shards, "--out", out, "--resamples", 100, "--precision", "fp32", "--split-rule", "shards")
    code, _, error = run(capsys, "evaluate", published, *words)
    assert code == 0, error
    predictions = read_predictions(out / "predictions.parquet")
    assert predictions.names == (*NAMES, "Abnormal")
    rows = read_rows(find_shards(shards).shards, None, SMALL)["test"]
    np.testing.assert_array_equal(predictions.targets, targets_of(rows.findings, "ignore").astype(np.float64))
    page = (out / "report.html").read_text()
    assert "Support Devices" in page and "Atelectasis" not in page
    first = json.loads((out / "metrics.json").read_text())["systems"][0]["metrics"]["findings"]["Fracture"]
    assert first["unknown"] == int(np.isnan(predictions.targets[:, 1]).sum()) > 0


def test_a_model_of_another_label_set_is_refused_in_one_line(
    published: Path, synthetic_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, error = run(capsys, "evaluate", published, "--data", synthetic_shards, "--out", tmp_path / "out")
    assert code == 2
    assert error.count("\n") == 1
    assert "predicts Opacity, Fracture, Support Devices, but the labels of" in error


def test_label_sets_with_different_normal_labels_differ() -> None:
    assert LabelSpace(findings=SMALL.findings, normal="None") != SMALL
