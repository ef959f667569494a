"""AdamW over what learns, and its learning rate at each optimisation step."""

from __future__ import annotations

import math

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


def learning_rate(phase: PhaseConfig, step: int, steps_per_epoch: int) -> float:
    """The rate for optimisation step `step` of a phase: linear warm-up, then half a cosine to `min_lr`.

    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017.

    Args:
        phase: its rates and lengths.
        step: 0-based, counted from the phase's start.
        steps_per_epoch: optimisation steps of an epoch.
    """
    warmup = round(phase.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return phase.lr * (step + 1) / (warmup + 1)
    rest = max(1, phase.epochs * steps_per_epoch - 1 - warmup)
    progress = min(1.0, (step - warmup) / rest)
    return phase.min_lr + 0.5 * (phase.lr - phase.min_lr) * (1 + math.cos(math.pi * progress))
