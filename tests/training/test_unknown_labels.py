"""Logits of unknown labels do not affect the loss, its weights or the validation loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from chexvision.config.recipe import LossConfig
from chexvision.inference.predict_split import predict_split
from chexvision.labels import NIH
from chexvision.recipes import load_recipe
from chexvision.training.hardware import start_accelerator
from chexvision.training.loss import DualHeadLoss, pos_weight
from tests.training.runs import tiny_training

LOSSES = [
    {"name": "bce"},
    {"name": "focal"},
    {"name": "asymmetric", "asymmetric_clip": 0.0},  # with the clip some known negatives have no gradient
    {"name": "bce", "label_smoothing": 0.1},
]
WEIGHTS = torch.linspace(1, 5, 14)


def config(**changes: object) -> LossConfig:
    return LossConfig(**{**load_recipe("densenet").loss.model_dump(), **changes})


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Logits and targets [6, 15], and which targets are unknown."""
    generator = torch.Generator().manual_seed(3)
    logits, targets, unknown = (torch.randn(6, 15, generator=generator) for _ in range(3))
    return logits, (targets > 0.5).float(), unknown > 0.4


def loss_and_gradient(loss: DualHeadLoss, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.clone().requires_grad_()
    value = loss({"multilabel_logits": logits[:, :-1], "binary_logits": logits[:, -1:]}, targets)
    value.sum().backward()
    assert logits.grad is not None
    return value.detach(), logits.grad


@pytest.mark.parametrize("changes", LOSSES)
def test_logits_of_unknown_labels_change_no_loss_and_no_gradient(changes: dict[str, object]) -> None:
    logits, targets, unknown = batch()
    assert 0 < int(unknown.sum()) < unknown.numel()
    loss = DualHeadLoss(config(**changes), WEIGHTS)
    masked = targets.masked_fill(unknown, torch.nan)
    first = loss_and_gradient(loss, logits, masked)
    second = loss_and_gradient(loss, torch.where(unknown, 7 - 3 * logits, logits), masked)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert (first[1][unknown] == 0).all() and (first[1][~unknown] != 0).all()


@pytest.mark.parametrize("changes", LOSSES)
def test_the_weight_of_a_known_label_does_not_depend_on_unknown_ones(changes: dict[str, object]) -> None:
    logits, targets, unknown = batch()
    loss = DualHeadLoss(config(**changes), WEIGHTS)
    every = loss_and_gradient(loss, logits, targets)[1]
    some = loss_and_gradient(loss, logits, targets.masked_fill(unknown, torch.nan))[1]
    assert torch.equal(every[~unknown], some[~unknown])


@pytest.mark.parametrize("changes", LOSSES)
def test_a_batch_of_unknown_labels_has_loss_0_and_no_gradient(changes: dict[str, object]) -> None:
    logits, targets, _ = batch()
    value, gradient = loss_and_gradient(DualHeadLoss(config(**changes), WEIGHTS), logits, targets * torch.nan)
    assert (value == 0).all() and (gradient == 0).all()


def test_pos_weight_uses_only_known_labels() -> None:
    generator = np.random.default_rng(5)
    known = (generator.random((80, 3)) < 0.3).astype(np.float32)
    unknown = np.full((40, 3), np.nan, np.float32)
    mixed = np.concatenate([unknown, known])[generator.permutation(120)]
    assert torch.equal(pos_weight(mixed, 0.5, 10), pos_weight(known, 0.5, 10))
    assert torch.isfinite(pos_weight(unknown, 0.5, 10)).all()


def test_the_validation_loss_ignores_predictions_for_unknown_labels(synthetic_shards: Path, tmp_path: Path) -> None:
    """Effusion is unknown in every image: its row of the head may be anything."""
    training = tiny_training(synthetic_shards, tmp_path)
    effusion = NIH.findings.index("Effusion")
    rows = training.validation_split.rows
    findings = rows.findings.copy()
    findings[:, effusion] = np.nan
    split = replace(training.validation_split, rows=replace(rows, findings=findings))
    model = training.model.eval()
    accelerator = start_accelerator("fp32")
    losses = []
    for bias in (0.0, 9.0):
        with torch.no_grad():
            model.multilabel_head.bias[effusion] = bias
        losses.append(predict_split(model, split, accelerator, 16, training.loss)[1])
    assert losses[0] == losses[1] > 0
