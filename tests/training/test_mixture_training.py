"""Training on a mixture: masks of what a data set does not label, figures of each data set, and resuming."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from chexvision.errors import UsageError
from chexvision.inference.labeled import labeled_parts
from chexvision.inference.predict_split import predict_split
from chexvision.labels import OUTSIDE
from chexvision.training.history import EpochRecord, dump_history, read_history
from chexvision.training.loop import Training
from chexvision.training.reporter import ConsoleReporter
from chexvision.training.training_session import STATE_FILE
from chexvision.training.validation import Validation, validate
from tests.data.mixtures import OTHER, mixed_data, write_other_shards
from tests.training.runs import AUGMENTED, assert_same_when_cut, run_teacher, tiny_training, true_from

IN_ORDER = ("Cardiomegaly", "Effusion", "Fracture")  # of the mixture
FEW = ("data.max_train_images=40", "data.max_validation_images=20", "optim.batch_size=16")


@pytest.fixture(scope="module")
def mixture(synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The overrides of a recipe on both data sets."""
    other = write_other_shards(tmp_path_factory.mktemp("other") / "other")
    return [*mixed_data(synthetic_shards, other), *FEW]


@pytest.fixture
def training(mixture: list[str], tmp_path: Path) -> Training:
    return tiny_training(None, tmp_path, *mixture)


def measured(training: Training, findings: np.ndarray | None = None) -> Validation:
    """The validation of the network as it is, with other labels if these are given."""
    split = training.validation_split
    if findings is not None:
        parts = tuple(
            replace(part, rows=replace(part.rows, findings=findings[part.begin : part.end][:, _own(training, i)]))
            for i, part in enumerate(split.parts)
        )
        split = replace(split, rows=replace(split.rows, findings=findings), parts=parts)
    return validate(training.model, split, training.accelerator, 16, training.loss)


def _own(training: Training, number: int) -> list[int]:
    """The columns of the findings that a data set labels."""
    space = training.validation_split.rows.label_space.findings
    return [space.index(name) for name in training.validation_split.parts[number].rows.label_space.findings]


def with_logits_of(training: Training, findings: list[int], bias: float) -> None:
    with torch.no_grad():
        training.model.multilabel_head.bias[findings] = bias


def test_no_output_learns_from_images_that_it_has_no_label_of(training: Training) -> None:
    """Images of the second data set alone: weights of findings that only the first labels have no gradient."""
    part = training.train_split.parts[1]
    space = training.train_split.rows.label_space
    outside = [i for i, name in enumerate(space.findings) if name not in OTHER.findings]
    targets = torch.from_numpy(training.train_split.targets[part.begin : part.end])
    features = torch.randn(len(targets), training.model.pooling.channels, generator=torch.Generator().manual_seed(0))
    logits = training.model.multilabel_head(features)
    loss = training.loss({"multilabel_logits": logits, "binary_logits": torch.zeros(len(targets), 1)}, targets).sum()
    (gradient,) = torch.autograd.grad(loss, training.model.multilabel_head.weight)
    assert (gradient[outside] == 0).all()
    own = [i for i in range(len(space.findings)) if i not in outside]
    assert (gradient[own] != 0).any(dim=1).all()


def test_predictions_of_what_is_not_labeled_change_neither_loss_nor_metrics(training: Training) -> None:
    findings = training.validation_split.rows.findings
    fracture = training.model.findings.index("Fracture")  # of the second data set alone
    mass = training.model.findings.index("Mass")  # of the first alone
    before = measured(training)
    for finding, unlabeled in ((fracture, 0), (mass, 1)):
        only = training.validation_split.parts[unlabeled]
        rows = training.validation_split.rows.take(np.arange(only.begin, only.end))
        split = replace(training.validation_split, images=training.validation_split.images[only.begin : only.end])
        split = replace(split, rows=rows, parts=())
        losses = []
        for bias in (0.0, 9.0):
            with_logits_of(training, [finding], bias)
            losses.append(predict_split(training.model, split, training.accelerator, 16, training.loss)[1])
        assert losses[0] == losses[1] > 0
        with_logits_of(training, [finding], 0.0)
    # The same where the labels are there: as 0 or 1 in place of the mask they change both.
    for label in (0, 1):
        unmasked = measured(training, np.where((findings == OUTSIDE) | np.isnan(findings), label, findings))
        assert unmasked.loss != before.loss
        assert unmasked.metrics.findings["Fracture"].unknown < before.metrics.findings["Fracture"].unknown
    assert before.metrics.findings["Fracture"].unknown >= len(training.validation_split.parts[0].rows)


def test_epochs_are_compared_by_the_mean_over_data_sets(training: Training) -> None:
    found = measured(training)
    first, second = (found.parts[part.name] for part in training.validation_split.parts)
    assert first.macro_auroc is not None and second.macro_auroc is not None
    assert found.macro_auroc == (first.macro_auroc + second.macro_auroc) / 2 != found.metrics.macro_auroc
    assert found.score("macro_auroc") == found.macro_auroc
    assert tuple(second.findings) == IN_ORDER and "Fracture" not in first.findings
    assert found.shares is not None and len(found.shares) == len(training.validation_split)
    probabilities, _ = predict_split(training.model, training.validation_split, training.accelerator, 16)
    parts = labeled_parts(training.validation_split, probabilities)
    assert [len(of) for of in parts.values()] == [first.images, second.images]
    assert next(iter(parts.values())).filenames[0] == training.validation_split.parts[0].rows.filenames[0]


def test_each_epoch_has_the_figures_of_each_data_set(training: Training, capsys: pytest.CaptureFixture[str]) -> None:
    training.reporter = ConsoleReporter()
    training.run()
    names = [part.name for part in training.validation_split.parts]
    record = training.history[-1]
    assert record.mixture is not None and list(record.mixture.datasets) == names
    figures = record.mixture.datasets[names[1]]
    assert figures.images == 20 and tuple(figures.auroc) == IN_ORDER
    printed = capsys.readouterr().out.splitlines()
    lines = [line for line in printed if line.startswith(f"  {names[1]} · macro AUROC ")]
    assert len(lines) == len(training.history)
    assert lines[-1] == (
        f"  {names[1]} · macro AUROC {figures.macro_auroc:.4f} over 3 findings · normal/abnormal "
        f"{figures.binary_auroc:.4f} · 20 images"
    )
    assert sum("mean macro AUROC" in line for line in printed) == len(training.history)
    assert read_history(dump_history(training.history)) == training.history


def test_a_cut_run_on_a_mixture_resumes_to_the_same_bits(mixture: list[str], tmp_path: Path) -> None:
    settings = [*mixture, *AUGMENTED, "data.temperature=3", "loss.pos_weight_power=0.5"]
    uncut = tiny_training(None, tmp_path / "uncut", *settings)
    assert uncut.run()
    taken = [part.per_epoch for part in uncut.train_split.parts]
    assert taken != [len(part.rows) for part in uncut.train_split.parts]
    assert_same_when_cut(
        lambda: tiny_training(None, tmp_path / "cut", *settings, should_stop=true_from(4)),
        uncut,
    )
    states = [torch.load(tmp_path / of / STATE_FILE, weights_only=True) for of in ("uncut", "cut")]
    assert all(torch.equal(states[0]["model"][key], states[1]["model"][key]) for key in states[0]["model"])
    assert torch.equal(states[0]["best_shares"], states[1]["best_shares"])


def test_a_teacher_of_all_findings_teaches_each_image_of_a_mixture(mixture: list[str], tmp_path: Path) -> None:
    plain = tiny_training(None, tmp_path / "plain", *mixture)
    teacher = plain.model
    teacher.preprocessing = teacher.preprocessing.model_copy(update={"shard_size": 32})
    with torch.no_grad():
        teacher.multilabel_head.weight *= 30
    teacher.save_pretrained(tmp_path / "teacher")
    taught = tiny_training(None, tmp_path / "taught", *mixture, f"loss.teacher={tmp_path / 'teacher'}")
    split = taught.train_split
    expected, _ = predict_split(teacher.eval(), plain.train_split, plain.accelerator, 16)
    assert split.teacher is not None and np.allclose(split.teacher, expected, atol=1e-5)
    assert len(np.unique(expected[:, 0])) > len(split) / 2  # which differ, so that the order is checked
    assert split.training_targets.shape == (len(split), 2 * (15 + 1))


def test_a_teacher_of_one_data_set_is_refused(mixture: list[str], synthetic_shards: Path, tmp_path: Path) -> None:
    teacher = run_teacher(synthetic_shards, tmp_path / "teacher")
    with pytest.raises(UsageError, match=r"the labels of .*shards \+ .*other are .*, Fracture; name a"):
        tiny_training(None, tmp_path / "work", *mixture, f"loss.teacher={teacher}")


def test_weights_temperature_and_folders_of_a_mixture(mixture: list[str], tmp_path: Path) -> None:
    """A state belongs to one mixture, wherever its folders are."""
    changed = [[], ["data.temperature=2"], ["data.datasets.0.weight=2"], ["data.datasets.1.split=patient"]]
    seen = {tiny_training(None, tmp_path, *mixture, *words)._fingerprints[0] for words in changed}
    assert len(seen) == len(changed)


def test_records_of_one_data_set_are_what_they_were(synthetic_shards: Path, tmp_path: Path) -> None:
    training = tiny_training(synthetic_shards, tmp_path, *FEW)
    text = training.recipe.model_dump_json()
    assert "datasets" not in text and "temperature" not in text
    training.run()
    entries = json.loads(dump_history(training.history))
    assert all("mixture" not in entry for entry in entries)
    assert all(EpochRecord.model_validate(entry).mixture is None for entry in entries)
