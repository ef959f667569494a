from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chexvision.config import PhaseConfig
from chexvision.models import CheXVision
from chexvision.training.optimizer import learning_rate, make_optimizer


def phase(**changes: object) -> PhaseConfig:
    values: dict[str, object] = {
        "epochs": 10,
        "lr": 1e-3,
        "min_lr": 1e-5,
        "warmup_epochs": 1.0,
        "freeze_backbone": False,
    }
    return PhaseConfig.model_validate(values | changes)


def test_norms_and_biases_do_not_decay_and_all_else_does() -> None:
    model = CheXVision(backbone="se_resnet34", hidden_features=0)
    optimizer = make_optimizer(model, 0.1)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        norm_or_bias = name.endswith("bias") or parameter.ndim == 1
        assert decay[id(parameter)] == (0.0 if norm_or_bias else 0.1), name


def test_a_frozen_backbone_is_not_handed_to_the_optimizer() -> None:
    model = CheXVision(backbone="densenet121")
    model.freeze_backbone(True)
    count = sum(len(group["params"]) for group in make_optimizer(model, 0.1).param_groups)
    assert count == 6  # three linear layers


def test_the_rate_warms_up_and_falls_by_a_cosine() -> None:
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
