"""The optimizer over the parameters that learn, and its learning rate at each optimization step."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from chexvision.config.recipe import OptimConfig, PhaseConfig
from chexvision.models.classifier import CheXVision


def make_optimizer(model: CheXVision, optim: OptimConfig) -> torch.optim.Optimizer:
    """The recipe's optimizer over the parameters that learn.

    ``adamw`` is that of Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019. ``adam`` adds
    ``weight_decay`` times the weight to the gradient (L2): Kingma and Ba, "Adam: A Method for Stochastic
    Optimization", ICLR 2015. ``sgd`` has Nesterov momentum (Sutskever et al., "On the importance of initialization
    and momentum in deep learning", ICML 2013) and L2 as well.

    Norms, biases, and what the network itself excludes (position embeddings, class tokens) do not decay, unless
    ``decay_norms`` is set.

    Args:
        model: whose parameters that require gradients are optimized.
        optim: settings.

    Returns:
        An optimizer whose groups have ``lr_scale``: their learning rate relative to the schedule's. It is
        ``layer_decay ** n`` for a parameter n layers below the heads.
    """
    groups = parameter_groups(model, optim)
    # fused: one kernel for all parameters instead of several for each.
    match optim.name:
        case "adamw":
            return torch.optim.AdamW(groups, fused=True)
        case "adam":
            return torch.optim.Adam(groups, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, momentum=optim.momentum, nesterov=optim.momentum > 0, fused=True)


def parameter_groups(model: CheXVision, optim: OptimConfig) -> list[dict[str, Any]]:
    """The parameters that learn, in groups of equal ``lr_scale`` and ``weight_decay``, from the heads downwards."""
    depth = _depths(model) if optim.layer_decay < 1 else {}
    excluded = set() if optim.decay_norms else _without_decay(model)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((depth.get(name, 0), name in excluded), []).append(parameter)
    return [
        {
            "params": groups[key],
            "weight_decay": 0.0 if key[1] else optim.weight_decay,
            "lr_scale": optim.layer_decay ** key[0],
        }
        for key in sorted(groups)
    ]


def _without_decay(model: nn.Module) -> set[str]:
    """The names of norms, biases, and what a network of timm lists, by pattern, in its `no_weight_decay`."""
    ndim = {name: parameter.ndim for name, parameter in model.named_parameters()}
    excluded = {name for name, dimensions in ndim.items() if dimensions <= 1}
    for prefix, module in model.named_modules():
        listed = getattr(module, "no_weight_decay", None)
        for pattern in listed() if callable(listed) else ():
            excluded.update(fnmatch.filter(ndim, f"{prefix}.{pattern}" if prefix else pattern))
    return excluded


def _depths(model: CheXVision) -> dict[str, int]:
    """How many layers below the heads each parameter of the backbone is, from 1."""
    layers = model.backbone.layers(coarse=False)
    return {f"backbone.{name}": len(layers) - i for i, names in enumerate(layers) for name in names}


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let every group learn at `rate` times its ``lr_scale``, which states of earlier versions lack."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)


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

    The rates are those of torch's `StepLR`, and of `ReduceLROnPlateau(patience=decay_epochs - 1, threshold=0,
    eps=0)` on `training.monitor`: torch's default `eps` skips decays of less than 1e-8.
    """
    rate = phase.lr
    for _ in range(times):
        rate = max(phase.min_lr, rate * phase.decay_factor)
    return rate
