"""Parameters by a formula, so that outputs can be compared with those of another implementation."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def fill(network: nn.Module) -> None:
    """Give every parameter and statistic values that depend on its name, shape and nothing else."""
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.copy_(_wave(value.shape, sum(map(ord, name))))
            if value.ndim > 1:
                value.div_(value[0].numel() ** 0.5)
            elif name.endswith(("running_var", "weight")):
                value.abs_().add_(0.5)


def wavy_images(count: int, side: int) -> Tensor:
    """float[count, 3, side, side] in [-1, 1]."""
    return _wave(torch.Size((count, 3, side, side)), 1)


def _wave(shape: torch.Size, phase: int) -> Tensor:
    """A sine sampled so coarsely that neighbors look unrelated."""
    return (torch.arange(shape.numel(), dtype=torch.float64) * 2.3 + phase).sin().float().reshape(shape)
