"""An exponential moving average of the weights, which often ranks better than any single step's.

Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017; Izmailov et al., UAI 2018.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from chexvision.models.classifier import CheXVision


def make_ema(model: CheXVision, decay: float) -> AveragedModel:
    """An average of `model`'s weights and norm statistics; `update_parameters` moves it a step on.

    Args:
        model: what is trained.
        decay: how much of the average each step keeps, in (0, 1). The first steps keep less, or the
            random beginning would stay in it for long.
    """

    def move(averaged: Sequence[Tensor], current: Sequence[Tensor], _: Tensor | int) -> None:
        steps = int(ema.n_averaged)  # a buffer on the CPU: reading it waits for no device
        kept = min(decay, (1 + steps) / (10 + steps))
        if torch.is_floating_point(averaged[0]):
            torch._foreach_lerp_(list(averaged), list(current), 1 - kept)
        else:
            for average, value in zip(averaged, current, strict=True):
                average.copy_(value)

    ema = AveragedModel(model, multi_avg_fn=move, use_buffers=True)
    return ema
