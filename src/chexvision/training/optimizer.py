"""AdamW over the parameters that learn, and its learning rate at each optimization step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from chexvision.config.recipe import PhaseConfig


def make_optimizer(model: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over the parameters that learn; norms and biases do not decay.

    Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
    """
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    # One kernel for all parameters instead of several for each.
    return torch.optim.AdamW([group for group in groups if group["params"]], fused=True)


def learning_rate(phase: PhaseConfig, step: int, steps_per_epoch: int, scores: Sequence[float] = ()) -> float:
    """The rate of an optimization step: linear warm-up, then the phase's schedule.

    Nothing is remembered from step to step, so a run that is resumed has the rates of one that was not stopped.

    Args:
        phase: settings.
        step: 0-based, counted from the phase's start.
        steps_per_epoch: optimization steps of an epoch.
        scores: `history.score` of each of the phase's epochs that ended, in order.
    """
    warmup = round(phase.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return phase.lr * (step + 1) / (warmup + 1)
    match phase.schedule:
        case "cosine":  # Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017
            rest = max(1, phase.epochs * steps_per_epoch - 1 - warmup)
            progress = min(1.0, (step - warmup) / rest)
            return phase.min_lr + 0.5 * (phase.lr - phase.min_lr) * (1 + math.cos(math.pi * progress))
        case "constant":
            return phase.lr
        case "step":  # epochs are counted from the phase's start, warm-up included
            return _decayed(phase, step // steps_per_epoch // phase.decay_epochs)
        case "plateau":
            return _decayed(phase, _plateaus(phase, scores))


def _plateaus(phase: PhaseConfig, scores: Sequence[float]) -> int:
    """How often the score did not improve for `decay_epochs` epochs."""
    best, without_gain, times = -math.inf, 0, 0
    for score in scores:
        best, without_gain = (score, 0) if score > best else (best, without_gain + 1)
        if without_gain == phase.decay_epochs:
            times, without_gain = times + 1, 0
    return times


def _decayed(phase: PhaseConfig, times: int) -> float:
    """`lr` after so many multiplications by `decay_factor`, one by one, and not below `min_lr`.

    The rates are those of torch's `StepLR`, and of `ReduceLROnPlateau(mode="max", patience=decay_epochs - 1,
    threshold=0, eps=0)`: torch's default `eps` skips decays of less than 1e-8.
    """
    rate = phase.lr
    for _ in range(times):
        rate = max(phase.min_lr, rate * phase.decay_factor)
    return rate
