from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chexvision.config.recipe import PhaseConfig
from chexvision.models.classifier import CheXVision
from chexvision.training.optimizer import learning_rate, make_optimizer


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
    optimizer = make_optimizer(model, 0.1)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        norm_or_bias = name.endswith("bias") or parameter.ndim == 1
        assert decay[id(parameter)] == (0.0 if norm_or_bias else 0.1), name


def test_the_optimizer_excludes_a_frozen_backbone() -> None:
    model = CheXVision(backbone="timm/densenet121.tv_in1k")
    model.freeze("all")
    count = sum(len(group["params"]) for group in make_optimizer(model, 0.1).param_groups)
    assert count == 6  # three linear layers


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
    for score in scores:
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            scheduler.step(score)
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
