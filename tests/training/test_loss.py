from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from chexvision.config.recipe import LossConfig
from chexvision.recipes import load_recipe
from chexvision.training.loss import DualHeadLoss, pos_weight

ONES = torch.ones(14)


def config(**changes: object) -> LossConfig:
    return LossConfig(**{**load_recipe("densenet").loss.model_dump(), "label_smoothing": 0.0, **changes})


def batch(seed: int = 0, count: int = 6) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 15, generator=generator)
    targets = (torch.rand(count, 15, generator=generator) < 0.3).float()
    return {"multilabel_logits": logits[:, :14], "binary_logits": logits[:, 14:]}, targets


def test_the_loss_weights_findings_1_and_abnormal_half() -> None:
    logits, targets = batch()
    weights = torch.linspace(1, 5, 14)
    expected = bce(logits["multilabel_logits"], targets[:, :14], pos_weight=weights) + 0.5 * bce(
        logits["binary_logits"], targets[:, 14:]
    )
    assert torch.allclose(DualHeadLoss(config(), weights)(logits, targets).mean(), expected)


def test_smoothing_lowers_only_positive_targets() -> None:
    logits, targets = batch()
    smooth = targets * 0.9
    expected = bce(logits["multilabel_logits"], smooth[:, :14]) + 0.5 * bce(logits["binary_logits"], smooth[:, 14:])
    assert torch.allclose(DualHeadLoss(config(label_smoothing=0.1), ONES)(logits, targets).mean(), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_smoothing_does_not_inflate_the_optimum_of_a_rare_finding(smoothing: float) -> None:
    """Hernia's prevalence is 0.2 %; smoothing its negatives by 0.01 as well would add 2.7 times its mass."""
    prevalence = 0.002
    grid = torch.linspace(-8, -4, 4001)[:, None]
    logits = {"multilabel_logits": grid.expand(-1, 14), "binary_logits": grid}
    loss = DualHeadLoss(config(label_smoothing=smoothing), ONES)
    positives, negatives = (loss(logits, torch.full((len(grid), 15), label)) for label in (1.0, 0.0))
    best = grid[(prevalence * positives + (1 - prevalence) * negatives).argmin()].sigmoid()
    assert float(best) == pytest.approx(prevalence * (1 - smoothing), rel=0.01)


def test_recipes_do_not_use_label_smoothing() -> None:
    assert {load_recipe(name).loss.label_smoothing for name in ("densenet", "scratch")} == {0.0}


def test_focal_loss_matches_torchvision_and_equals_bce_at_gamma_0() -> None:
    from torchvision.ops import sigmoid_focal_loss

    logits, targets = batch()
    findings_only = {"binary_weight": 0.0, "name": "focal"}
    ours = DualHeadLoss(config(**findings_only), ONES)(logits, targets).mean()
    theirs = sigmoid_focal_loss(logits["multilabel_logits"], targets[:, :14], alpha=-1, gamma=2, reduction="mean")
    assert torch.allclose(ours, theirs)
    plain = DualHeadLoss(config(binary_weight=0.0), ONES)(logits, targets)
    assert torch.allclose(DualHeadLoss(config(**findings_only, focal_gamma=0.0), ONES)(logits, targets), plain)


@given(st.lists(st.integers(0, 1), min_size=2, max_size=60), st.floats(0, 1), st.floats(1, 50))
def test_pos_weight_is_the_tempered_ratio_up_to_its_cap(column: list[int], power: float, cap: float) -> None:
    targets = np.array(column, np.float32)[:, None]
    weight = float(pos_weight(targets, power, cap)[0])
    assert 1 / cap - 1e-6 <= weight <= cap + 1e-4
    positives = sum(column)
    if 0 < positives < len(column):
        ratio = ((len(column) - positives) / positives) ** power
        assert weight == pytest.approx(min(max(ratio, 1 / cap), cap), rel=1e-5)


def test_power_zero_gives_equal_weights() -> None:
    targets = np.array([[0, 1, 0]] * 9 + [[1, 1, 0]], np.float32)
    assert pos_weight(targets, 0.0, 10.0).tolist() == [1, 1, 1]
    assert pos_weight(targets, 1.0, 10.0).tolist() == pytest.approx([9, 0.1, 10])
