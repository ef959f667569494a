from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from chexvision.config.recipe import LossConfig
from chexvision.models.classifier import CheXVision
from chexvision.recipes import load_recipe
from chexvision.training.loss import DualHeadLoss, detach_unweighted_heads, pos_weight

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


def test_focal_loss_of_gamma_2_is_dannynets() -> None:
    """DannyNet: (1 - exp(-BCE)) ** 2 times BCE with alpha 1, gradients flowing through the factor."""
    logits, targets = batch()
    findings = logits["multilabel_logits"].requires_grad_()
    plain = bce(findings, targets[:, :14], reduction="none")
    theirs = ((1 - torch.exp(-plain)) ** 2 * plain).mean()
    ours = DualHeadLoss(config(name="focal", binary_weight=0.0), ONES)(logits, targets).mean()
    assert torch.allclose(ours, theirs)
    gradients = [torch.autograd.grad(value, findings)[0] for value in (ours, theirs)]
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-7, rtol=1e-4)


def published_asymmetric(x: torch.Tensor, y: torch.Tensor, negative: float, positive: float, clip: float) -> Any:
    """As the authors describe and publish it: the focusing factor is computed without gradients."""
    x, y = x.double(), y.double()  # in single precision 1 - p is 0 for large x
    p = x.sigmoid()
    absent = 1 - p
    if clip > 0:
        absent = (absent + clip).clamp(max=1)
    logarithm = y * p.clamp(min=1e-8).log() + (1 - y) * absent.clamp(min=1e-8).log()
    with torch.no_grad():
        right = p * y + absent * (1 - y)
        factor = (1 - right) ** (positive * y + negative * (1 - y))
    return -logarithm * factor


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("negative", "positive", "clip"), [(4.0, 1.0, 0.05), (4.0, 0.0, 0.0), (2.0, 2.0, 0.2)])
def test_asymmetric_loss_and_gradient_match_the_published_ones(
    negative: float, positive: float, clip: float, soft: bool
) -> None:
    logits, targets = batch(count=40)
    targets = targets * 0.9 if soft else targets
    findings = (3 * logits["multilabel_logits"]).requires_grad_()
    settings = config(
        name="asymmetric",
        binary_weight=0.0,
        asymmetric_gamma_negative=negative,
        asymmetric_gamma_positive=positive,
        asymmetric_clip=clip,
    )
    ours = DualHeadLoss(settings, ONES)({**logits, "multilabel_logits": findings}, targets)
    theirs = published_asymmetric(findings, targets[:, :14], negative, positive, clip).mean(dim=1)
    torch.testing.assert_close(ours.double(), theirs, atol=1e-6, rtol=1e-5)
    gradients = [torch.autograd.grad(value.sum(), findings)[0] for value in (ours, theirs)]
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-5)


def test_negatives_below_the_clip_have_no_asymmetric_loss() -> None:
    x = torch.full((1, 14), -3.0, requires_grad=True)  # probability 0.047
    loss = DualHeadLoss(config(name="asymmetric", binary_weight=0.0), ONES)
    value = loss({"multilabel_logits": x, "binary_logits": torch.zeros(1, 1)}, torch.zeros(1, 15)).sum()
    assert value.item() == 0 and not torch.autograd.grad(value, x)[0].any()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_asymmetric_loss_without_exponents_and_clip_is_bce_bit_for_bit(smoothing: float) -> None:
    none = {"asymmetric_gamma_negative": 0.0, "asymmetric_gamma_positive": 0.0, "asymmetric_clip": 0.0}
    logits, targets = batch(count=40)
    targets[::3, ::2] = torch.nan
    findings = (9 * logits["multilabel_logits"]).requires_grad_()
    weights = torch.linspace(1, 5, 14)
    results = []
    for changes in ({"name": "bce"}, {"name": "asymmetric", **none}):
        loss = DualHeadLoss(config(label_smoothing=smoothing, **changes), weights)
        value = loss({**logits, "multilabel_logits": findings}, targets)
        results.append((value, torch.autograd.grad(value.sum(), findings)[0]))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])


def test_asymmetric_positives_are_weighted() -> None:
    logits, targets = batch(count=40)
    weights = torch.linspace(1, 5, 14)
    settings = config(name="asymmetric", binary_weight=0.0)
    weighted, plain = (DualHeadLoss(settings, one)(logits, targets * 0 + 1) for one in (weights, ONES))
    each = published_asymmetric(logits["multilabel_logits"], torch.ones(40, 14), 4, 1, 0.05)
    assert torch.allclose(weighted.double(), (each * weights).mean(dim=1))
    assert torch.allclose(plain.double(), each.mean(dim=1))
    negatives = [DualHeadLoss(settings, one)(logits, targets * 0) for one in (weights, ONES)]
    assert torch.equal(negatives[0], negatives[1])


def taught(count: int = 6) -> torch.Tensor:
    return torch.rand(count, 15, generator=torch.Generator().manual_seed(9))


def test_a_teacher_shares_the_loss() -> None:
    logits, targets = batch()
    weights = torch.linspace(1, 5, 14)
    labels = DualHeadLoss(config(label_smoothing=0.1), weights)(logits, targets)
    teacher = taught()
    of_teacher = bce(logits["multilabel_logits"], teacher[:, :14], reduction="none").mean(dim=1) + 0.5 * bce(
        logits["binary_logits"], teacher[:, 14:], reduction="none"
    ).squeeze(1)
    both = torch.cat([targets, teacher], dim=1)
    for share in (0.0, 0.3, 1.0):
        loss = DualHeadLoss(config(label_smoothing=0.1, teacher_weight=share), weights)(logits, both)
        assert torch.allclose(loss, (1 - share) * labels + share * of_teacher)
        if share == 0:
            assert torch.equal(loss, labels)


def test_unknown_labels_are_learned_from_the_teacher_alone() -> None:
    logits, targets = batch()
    findings = logits["multilabel_logits"].requires_grad_()
    unknown = torch.full_like(targets, torch.nan)
    teacher = taught()
    loss = DualHeadLoss(config(teacher_weight=0.25), ONES)
    value = loss({**logits, "multilabel_logits": findings}, torch.cat([unknown, teacher], dim=1)).sum()
    (gradient,) = torch.autograd.grad(value, findings)
    assert torch.allclose(gradient, 0.25 * (findings.sigmoid() - teacher[:, :14]) / 14)


@pytest.mark.parametrize(("head", "other"), [("binary", "multilabel"), ("multilabel", "binary")])
def test_a_head_of_weight_0_learns_but_does_not_shape_the_features(head: str, other: str) -> None:
    settings = config(**{f"{head}_weight": 0.0})
    gradients = []
    for hooked in (True, False):
        torch.manual_seed(0)
        model = CheXVision(backbone="se_resnet34", hidden_features=8, dropout=0.0).eval()
        if hooked:
            detach_unweighted_heads(model, settings)
        logits = model(torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
        if not hooked:
            logits[f"{head}_logits"] = logits[f"{head}_logits"].detach()
        _, targets = batch(count=3)
        value = DualHeadLoss(settings, ONES)(logits, targets)
        factor = 2.0 / getattr(settings, f"{other}_weight")
        doubled = config(**{f"{head}_weight": 0.0, f"{other}_weight": 2.0})
        assert torch.allclose(DualHeadLoss(doubled, ONES)(logits, targets), factor * value)  # the head adds nothing
        value.sum().backward()
        gradients.append({name: one.grad for name, one in model.named_parameters()})
    own = {f"{head}_head.weight", f"{head}_head.bias"}
    for name, gradient in gradients[0].items():
        assert gradient is not None and gradient.any(), name
        if name not in own:
            torch.testing.assert_close(gradient, gradients[1][name], msg=name)


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
