"""Students learn from the probabilities of a published model, which are predicted once per run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from chexvision.data.dataset import open_split, splits_of
from chexvision.data.source import find_shards
from chexvision.errors import ChexError, UsageError
from chexvision.inference.predict_split import predict_split
from chexvision.labels import LabelSpace
from chexvision.models.classifier import CheXVision
from chexvision.provenance import Provenance
from chexvision.recipes import load_recipe
from chexvision.training.run import run_training
from chexvision.training.start import distillation
from chexvision.training.training_session import TEACHER_FILE, TrainingProgress
from tests.present import present
from tests.training.runs import TINY, figures, run_teacher, tiny_training, true_from, weights

ONE_EPOCH = "training.phases=[{epochs: 1, lr: 1e-3, min_lr: 1e-5, warmup_epochs: 0, freeze: none}]"


@pytest.fixture(scope="module")
def teacher(synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_teacher(synthetic_shards, tmp_path_factory.mktemp("teacher"))


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_targets_are_the_teachers_probabilities_by_its_own_preprocessing(
    synthetic_shards: Path, teacher: Path, tmp_path: Path
) -> None:
    training = tiny_training(synthetic_shards, tmp_path, f"loss.teacher={teacher}")
    model = CheXVision.from_pretrained(teacher)
    assert model.preprocessing.image_size == 48 != training.recipe.data.image_size
    source = find_shards(synthetic_shards)
    config = training.recipe.data.model_copy(update={"image_size": 48})
    split = open_split(source, splits_of(source, config, training.recipe.training.seed), "train", config, quiet=True)
    expected, _ = predict_split(model, split, training.accelerator, 8)
    targets = training.train_split.training_targets
    assert np.array_equal(targets[:, 15:], expected) and expected.std() > 0.05
    assert np.array_equal(targets[:, :15], training.train_split.targets)
    assert training.validation_split.teacher is None


def test_a_student_of_the_teacher_alone_approaches_its_outputs(
    synthetic_shards: Path, teacher: Path, tmp_path: Path
) -> None:
    phase = "training.phases=[{epochs: 8, lr: 2e-2, min_lr: 1e-4, warmup_epochs: 0, freeze: none}]"
    still = [f"augment.{key}=0" for key in ("hflip", "rotate_degrees", "translate", "shear_degrees", "scale")]
    settings = [f"loss.teacher={teacher}", "loss.teacher_weight=1", "model.dropout=0", "data.max_train_images=48"]
    training = tiny_training(synthetic_shards, tmp_path, phase, *still, *settings)
    aim = present(training.train_split.teacher)

    def distance() -> float:
        found, _ = predict_split(training.model.eval(), training.train_split, training.accelerator, 32)
        return float(np.abs(found - aim).mean())

    before = distance()
    assert training.run()
    assert distance() < 0.3 * before


def test_a_teacher_of_weight_0_changes_nothing(synthetic_shards: Path, tmp_path: Path) -> None:
    alone = tiny_training(synthetic_shards, tmp_path / "alone", ONE_EPOCH)
    missing = ["loss.teacher=/nowhere", "loss.teacher_weight=0"]
    taught = tiny_training(synthetic_shards, tmp_path / "taught", ONE_EPOCH, *missing)
    assert alone.run() and taught.run()
    assert figures(alone.history) == figures(taught.history)
    assert equal(weights(tmp_path / "alone"), weights(tmp_path / "taught"))
    assert not (tmp_path / "taught" / TEACHER_FILE).exists()


def test_a_resumed_run_predicts_nothing_again(
    synthetic_shards: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (ONE_EPOCH, f"loss.teacher={teacher}")
    assert tiny_training(synthetic_shards, tmp_path / "uncut", *settings).run()
    assert not tiny_training(synthetic_shards, tmp_path / "cut", *settings, should_stop=true_from(2)).run()
    monkeypatch.setattr(distillation, "load_ensemble", lambda _: pytest.fail("loaded again"))
    assert tiny_training(synthetic_shards, tmp_path / "cut", *settings).run()
    assert equal(weights(tmp_path / "cut"), weights(tmp_path / "uncut"))


def test_probabilities_of_another_teacher_or_damaged_ones_are_refused(
    synthetic_shards: Path, teacher: Path, tmp_path: Path
) -> None:
    tiny_training(synthetic_shards, tmp_path, f"loss.teacher={teacher}")
    other = run_teacher(synthetic_shards, tmp_path / "other", seed=5)
    with pytest.raises(ChexError, match="of another teacher or of other images; give --work an empty folder"):
        tiny_training(synthetic_shards, tmp_path, f"loss.teacher={other}")
    with pytest.raises(ChexError, match="of another teacher or of other images"):
        tiny_training(synthetic_shards, tmp_path, f"loss.teacher={teacher}", "data.max_train_images=40")
    (tmp_path / TEACHER_FILE).write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ChexError, match=r"teacher\.npz cannot be read: .*remove it"):
        tiny_training(synthetic_shards, tmp_path, f"loss.teacher={teacher}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/nowhere", "loss.teacher /nowhere: no such folder, and not a repository USER/NAME@<sha> either"),
        ("user/repo", "loss.teacher user/repo is not pinned: name the 40-digit commit sha, user/repo@<sha>"),
        ("user/repo@main", "loss.teacher user/repo@main is not pinned"),
    ],
)
def test_a_teacher_that_does_not_exist_or_is_not_pinned_is_refused(
    synthetic_shards: Path, tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        tiny_training(synthetic_shards, tmp_path, f"loss.teacher={name}")


def test_a_teacher_of_other_findings_is_refused(synthetic_shards: Path, tmp_path: Path) -> None:
    space = LabelSpace(findings=("Pneumonia", "Fracture"))
    CheXVision("tiny", 0, 0.0, label_space=space).save_pretrained(tmp_path / "other")
    with pytest.raises(UsageError, match=r"other predicts Pneumonia, Fracture, but the labels of .* are Atelectasis"):
        tiny_training(synthetic_shards, tmp_path / "work", f"loss.teacher={tmp_path / 'other'}")


def test_the_record_and_the_card_name_the_teacher(
    synthetic_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The teacher is a run's artifact, which lists its training images: one is a validation image of the student."""

    def run(work: Path, *overrides: str) -> Path:
        recipe = load_recipe("scratch", overrides=[*TINY, ONE_EPOCH, *overrides])
        provenance = Provenance.here("scratch")
        outcome = run_training(recipe, synthetic_shards, work, provenance, TrainingProgress(work, provenance.run_id))
        assert outcome.artifact is not None
        return outcome.artifact

    first = run(tmp_path / "first", "data.split=shards")
    shared = {"loss.teacher": first, "loss.teacher_weight": 0.25, "data.split": "patient", "loss.binary_weight": 0}
    artifact = run(tmp_path / "second", *(f"{key}={value}" for key, value in shared.items()))
    record = json.loads((artifact / "run.json").read_text())["teacher"]
    card = (artifact / "README.md").read_text()
    assert record["name"] == first.name and len(record["identity"]) == 64
    (note,) = (note for note in record["notes"] if "validation images" in note)
    assert note.startswith("the teacher artifact was trained on ")
    assert f"note: {note}\n" in capsys.readouterr().out
    assert "Distilled: 25% of the loss is against the probabilities of `artifact` instead of the labels. T" in card
    assert f" T{note[1:]}." in card and str(tmp_path) not in card
    assert "Normal/abnormal was learned from the features of the findings, which it did not shape." in card
    assert json.loads((first / "run.json").read_text())["teacher"] is None
