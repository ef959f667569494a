"""AdamW over the parameters that learn, and its learning rate at each optimization step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from chexvision.config import PhaseConfig


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


@dataclass(frozen=True, slots=True)
class Position:
    """Where an optimization step is in its phase: with the phase's settings all that its learning rate depends on.

    Nothing else is remembered from step to step, so a run that is resumed has the rates of one that was not stopped.

    Args:
        step: 0-based, counted from the phase's start.
        steps_per_epoch: optimization steps of an epoch.
        scores: `history.score` of each of the phase's epochs that ended, in order.
    """

    step: int
    steps_per_epoch: int
    scores: Sequence[float] = ()


def learning_rate(phase: PhaseConfig, position: Position) -> float:
    """The rate of an optimization step: linear warm-up, then the phase's schedule."""
    warmup = _warmup_steps(phase, position)
    if position.step < warmup:
        return phase.lr * (position.step + 1) / (warmup + 1)
    return _SCHEDULES[phase.schedule](phase, position)


def _warmup_steps(phase: PhaseConfig, position: Position) -> int:
    return round(phase.warmup_epochs * position.steps_per_epoch)


def _cosine(phase: PhaseConfig, position: Position) -> float:
    """Half a cosine from the end of the warm-up to `min_lr` at the phase's last step.

    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017.
    """
    warmup = _warmup_steps(phase, position)
    rest = max(1, phase.epochs * position.steps_per_epoch - 1 - warmup)
    progress = min(1.0, (position.step - warmup) / rest)
    return phase.min_lr + 0.5 * (phase.lr - phase.min_lr) * (1 + math.cos(math.pi * progress))


def _constant(phase: PhaseConfig, position: Position) -> float:
    return phase.lr


def _step(phase: PhaseConfig, position: Position) -> float:
    """As torch's `StepLR`, and not below `min_lr`; epochs are counted from the phase's start, warm-up included."""
    return _decayed(phase, position.step // position.steps_per_epoch // phase.decay_epochs)


def _plateau(phase: PhaseConfig, position: Position) -> float:
    """As torch's `ReduceLROnPlateau(mode="max", patience=decay_epochs - 1, threshold=0)`."""
    best, without_gain, decays = -math.inf, 0, 0
    for score in position.scores:
        best, without_gain = (score, 0) if score > best else (best, without_gain + 1)
        if without_gain == phase.decay_epochs:
            decays, without_gain = decays + 1, 0
    return _decayed(phase, decays)


def _decayed(phase: PhaseConfig, times: int) -> float:
    """`lr` after so many multiplications by `decay_factor`, one by one as torch's schedulers do it."""
    rate = phase.lr
    for _ in range(times):
        rate = max(phase.min_lr, rate * phase.decay_factor)
    return rate


_SCHEDULES: Mapping[str, Callable[[PhaseConfig, Position], float]] = {
    "cosine": _cosine,
    "constant": _constant,
    "step": _step,
    "plateau": _plateau,
}
