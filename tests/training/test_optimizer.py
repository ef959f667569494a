from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, cast

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]
from torch import nn

from chexvision.config.recipe import OptimConfig, PhaseConfig
from chexvision.images.preprocessing import Preprocessing
from chexvision.models.backbone import Backbone
from chexvision.models.classifier import CheXVision
from chexvision.training.history import score
from chexvision.training.optimizer import learning_rate, make_optimizer, parameter_groups, set_learning_rate


def optim(**changes: object) -> OptimConfig:
    values: dict[str, object] = {"batch_size": 8, "micro_batch_size": 4, "weight_decay": 0.1, "clip_norm": 1.0}
    return OptimConfig.model_validate(values | changes)


def phase(**changes: object) -> PhaseConfig:
    values: dict[str, object] = {
        "epochs": 10,
        "lr": 1e-3,
        "min_lr": 1e-5,
        "warmup_epochs": 1.0,
        "freeze": "none",
    }
    return PhaseConfig.model_validate(values | changes)


def test_weight_decay_excludes_norms_and_biases() -> None:
    model = CheXVision(backbone="se_resnet34", hidden_features=0)
    optimizer = make_optimizer(model, optim())
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        norm_or_bias = name.endswith("bias") or parameter.ndim == 1
        assert decay[id(parameter)] == (0.0 if norm_or_bias else 0.1), name


def test_the_class_token_of_a_conformer_does_not_decay() -> None:
    with torch.device("meta"):
        model = CheXVision("conformer_tiny", 0, preprocessing=Preprocessing(image_size=64))
    groups = {id(p): group["weight_decay"] for group in parameter_groups(model, optim()) for p in group["params"]}
    decaying = [name for name, p in model.named_parameters() if p.ndim == 3 and groups[id(p)]]
    assert decaying == []


def test_the_optimizer_excludes_a_frozen_backbone() -> None:
    model = CheXVision(backbone="timm/densenet121.tv_in1k")
    model.freeze("all")
    count = sum(len(group["params"]) for group in make_optimizer(model, optim()).param_groups)
    assert count == 6  # three linear layers


class Layered(nn.Sequential):
    """A backbone of three layers, the first with a position embedding, as timm's networks list them."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), nn.Linear(4, 4))
        self[0].register_parameter("pos_embed", nn.Parameter(torch.zeros(1, 3, 4)))

    def no_weight_decay(self) -> set[str]:
        return {"0.pos_*"}

    def layers(self, *, coarse: bool) -> list[list[str]]:
        assert not coarse
        return [[name for name, _ in self.named_parameters() if name.startswith(f"{i}.")] for i in range(3)]


def layered() -> CheXVision:
    model = CheXVision(backbone="se_resnet34", hidden_features=8)
    model.backbone = cast(Backbone, Layered())
    return model


def settings_by_name(model: CheXVision, config: OptimConfig) -> dict[str, tuple[float, float]]:
    """The learning rate, relative to the schedule's, and the weight decay of each parameter in the optimizer."""
    optimizer = make_optimizer(model, config)
    set_learning_rate(optimizer, 2.0)
    found = {id(p): (g["lr"] / 2, g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert len(found) == sum(len(g["params"]) for g in optimizer.param_groups)
    return {name: found[id(p)] for name, p in model.named_parameters() if id(p) in found}


def test_the_learning_rate_decays_from_the_heads_downwards() -> None:
    found = settings_by_name(layered(), optim(layer_decay=0.5))
    assert found["multilabel_head.weight"] == found["neck.0.weight"] == (1.0, 0.1)
    assert found["binary_head.bias"] == (1.0, 0.0)
    assert found["backbone.2.weight"] == (0.5, 0.1)
    assert found["backbone.1.0.weight"] == (0.25, 0.1)
    assert found["backbone.1.1.weight"] == (0.25, 0.0)
    assert found["backbone.0.weight"] == (0.125, 0.1)
    assert found["backbone.0.pos_embed"] == (0.125, 0.0)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18", "swin_tiny_patch4_window7_224"])
def test_groups_of_timms_networks_are_those_of_timms_optimizers(name: str) -> None:
    """Scales and weight decay of `timm.optim.param_groups_layer_decay`, for the network with a classifier."""
    with torch.device("meta"):
        theirs: Any = timm.create_model(name, num_classes=14)
        ours = CheXVision(backbone=f"timm/{name}", preprocessing=Preprocessing(image_size=224))
    excluded = theirs.no_weight_decay() if hasattr(theirs, "no_weight_decay") else ()
    groups = param_groups_layer_decay(theirs, 0.1, no_weight_decay_list=excluded, layer_decay=0.75)
    expected = {id(p): (g["lr_scale"], g["weight_decay"]) for g in groups for p in g["params"]}
    named = {f"backbone.network.{name}": expected[id(p)] for name, p in theirs.named_parameters()}
    found = settings_by_name(ours, optim(layer_decay=0.75))
    shared = named.keys() & found.keys()
    assert len(shared) >= 60 and len(named) - len(shared) == 2  # the classifier
    assert {name: found[name] for name in shared} == {name: named[name] for name in shared}
    assert len({scale for scale, _ in found.values()}) > 5


def test_everything_decays_where_norms_do() -> None:
    assert set(settings_by_name(layered(), optim(decay_norms=True)).values()) == {(1.0, 0.1)}


def test_a_state_without_layer_scales_is_one_without_layer_decay() -> None:
    model = layered()
    first, second = make_optimizer(model, optim()), make_optimizer(model, optim())
    state = first.state_dict()
    for group in state["param_groups"]:
        del group["lr_scale"]
    second.load_state_dict(state)
    set_learning_rate(second, 0.3)
    assert [group["lr"] for group in second.param_groups] == [0.3, 0.3]


@pytest.mark.parametrize(
    ("config", "plain"),
    [
        (optim(), lambda p: torch.optim.AdamW(p, weight_decay=0.1, fused=True)),
        (optim(name="adam"), lambda p: torch.optim.Adam(p, weight_decay=0.1, fused=True)),
        (optim(name="sgd"), lambda p: torch.optim.SGD(p, weight_decay=0.1, momentum=0.9, nesterov=True, fused=True)),
        (optim(name="sgd", momentum=0.0), lambda p: torch.optim.SGD(p, weight_decay=0.1, fused=True)),
    ],
    ids=["adamw", "adam", "sgd", "sgd without momentum"],
)
def test_the_optimizer_takes_the_steps_of_torchs(
    config: OptimConfig, plain: Callable[[list[nn.Parameter]], torch.optim.Optimizer]
) -> None:
    model = layered()
    other = deepcopy(model)
    decay = [p for p in other.parameters() if p.ndim > 1 and p.shape != (1, 3, 4)]
    theirs = plain(decay)
    ours = make_optimizer(model, config)
    set_learning_rate(ours, 0.01)
    for group in theirs.param_groups:
        group["lr"] = 0.01
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        for one, two in zip(model.parameters(), other.parameters(), strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            two.grad = one.grad.clone()
        ours.step()
        theirs.step()
    own = [p for p in model.parameters() if p.ndim > 1 and p.shape != (1, 3, 4)]
    assert all(torch.equal(one, two) for one, two in zip(own, decay, strict=True))


def test_adam_adds_weight_decay_to_the_gradient() -> None:
    """Written out from Kingma and Ba, ICLR 2015, Algorithm 1."""
    model = layered()
    weight = model.binary_head.weight
    expected = weight.detach().clone().double()
    optimizer = make_optimizer(model, optim(name="adam"))
    set_learning_rate(optimizer, 0.01)
    first, second = torch.zeros_like(expected), torch.zeros_like(expected)
    generator = torch.Generator().manual_seed(2)
    for step in range(1, 5):
        weight.grad = torch.randn(weight.shape, generator=generator)
        gradient = weight.grad.double() + 0.1 * expected
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        expected -= 0.01 * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        optimizer.step()
    torch.testing.assert_close(weight.detach().double(), expected, atol=1e-6, rtol=1e-5)


def test_the_rate_warms_up_and_decays_by_a_cosine() -> None:
    rates = [learning_rate(phase(), step, 20) for step in range(200)]
    assert rates[:20] == sorted(rates[:20]) and 0 < rates[0] < 1e-4
    assert rates[20] == 1e-3
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[110] == pytest.approx((1e-3 + 1e-5) / 2, rel=0.02)
    assert rates[-1] == pytest.approx(1e-5)


@given(st.integers(1, 30), st.integers(1, 50), st.floats(0, 1))
def test_the_rate_stays_between_zero_and_its_peak(epochs: int, steps: int, warmup: float) -> None:
    settings = phase(epochs=epochs, warmup_epochs=warmup * epochs)
    rates = [learning_rate(settings, step, steps) for step in range(epochs * steps)]
    assert all(0 < rate <= 1e-3 for rate in rates)


SCORES = [0.5, 0.6, 0.6, 0.55, 0.7, 0.7, 0.69, 0.6, 0.71, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, -1.2, 0.7, 0.72, 0.7, 0.7]


def rate_of_each_epoch(settings: PhaseConfig, scores: Sequence[float]) -> list[float]:
    """The first rate of each epoch, given only the scores of earlier epochs."""
    return [learning_rate(settings, 4 * epoch, 4, scores[:epoch]) for epoch in range(len(scores))]


def rates_of_torch(
    settings: PhaseConfig, make: Callable[[torch.optim.Optimizer], object], scores: Sequence[float]
) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=settings.lr)
    scheduler, rates = make(optimizer), []
    for value in scores:
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            scheduler.step(value)
        elif isinstance(scheduler, torch.optim.lr_scheduler.StepLR):
            scheduler.step()
    return rates


@pytest.mark.parametrize(("factor", "epochs", "min_lr"), [(0.5, 1, 0.0), (0.3, 2, 1e-5), (0.1, 3, 1e-9), (0.7, 4, 0)])
def test_plateau_matches_reduce_lr_on_plateau(factor: float, epochs: int, min_lr: float) -> None:
    settings = phase(
        epochs=20, schedule="plateau", warmup_epochs=0.0, decay_factor=factor, decay_epochs=epochs, min_lr=min_lr
    )

    def make(optimizer: torch.optim.Optimizer) -> object:
        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, "max", factor=factor, patience=epochs - 1, threshold=0, min_lr=min_lr, eps=0
        )

    rates = rate_of_each_epoch(settings, SCORES)
    assert rates == rates_of_torch(settings, make, SCORES)
    assert len(set(rates)) > 2


@pytest.mark.parametrize(("factor", "epochs", "min_lr"), [(0.1, 1, 0.0), (0.3, 2, 1e-5), (0.7, 4, 0)])
def test_plateau_on_the_loss_matches_reduce_lr_on_plateau(factor: float, epochs: int, min_lr: float) -> None:
    settings = phase(
        epochs=20, schedule="plateau", warmup_epochs=0.0, decay_factor=factor, decay_epochs=epochs, min_lr=min_lr
    )
    losses = [1 - value / 3 for value in SCORES]

    def make(optimizer: torch.optim.Optimizer) -> object:
        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, "min", factor=factor, patience=epochs - 1, threshold=0, min_lr=min_lr, eps=0
        )

    rates = rate_of_each_epoch(settings, [score("loss", 0.5, loss) for loss in losses])
    assert rates == rates_of_torch(settings, make, losses)
    assert len(set(rates)) > 2


@pytest.mark.parametrize(("factor", "epochs"), [(0.5, 1), (0.3, 2), (0.1, 7)])
def test_step_matches_step_lr(factor: float, epochs: int) -> None:
    settings = phase(
        epochs=20, schedule="step", warmup_epochs=0.0, decay_factor=factor, decay_epochs=epochs, min_lr=0.0
    )

    def make(optimizer: torch.optim.Optimizer) -> object:
        return torch.optim.lr_scheduler.StepLR(optimizer, epochs, gamma=factor)

    rates = rate_of_each_epoch(settings, SCORES)
    assert rates == pytest.approx(rates_of_torch(settings, make, SCORES), rel=1e-15)
    assert len(set(rates)) > 2


@pytest.mark.parametrize("schedule", ["cosine", "plateau", "step", "constant"])
def test_every_schedule_warms_up_to_the_peak_and_respects_the_minimum(schedule: str) -> None:
    settings = phase(epochs=20, schedule=schedule, decay_epochs=4, decay_factor=0.1)
    rates = [learning_rate(settings, step, 10, [0.5] * (step // 10)) for step in range(200)]
    assert rates[:10] == sorted(rates[:10]) and rates[9] < rates[10] <= settings.lr
    assert all(settings.min_lr <= rate <= settings.lr for rate in rates[10:])
    assert (rates[-1] == pytest.approx(settings.min_lr)) == (schedule != "constant")
    assert not any(map(math.isnan, rates))
