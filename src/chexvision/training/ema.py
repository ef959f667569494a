"""An exponential moving average of the weights, which often ranks better than any single step's.

Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017; Izmailov et al., UAI 2018.
"""

from __future__ import annotations

from copy import deepcopy
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from chexvision.models.classifier import CheXVision


class MovingAverage:
    """An average of a model's weights and norm statistics, moved a step on by `update`.

    torch's `AveragedModel` computes the same, but waits for the device at every step and walks through all modules.

    Args:
        model: the trained model; its tensors must be changed in place while this is used.
        decay: how much of the average each step keeps, in (0, 1). The first steps keep less, or the
            random beginning would stay in it for long.

    Attributes:
        module: the averaged model.
        steps: number of updates.
    """

    def __init__(self, model: CheXVision, decay: float) -> None:
        self.module = deepcopy(model)
        self.decay = decay
        self.steps = 0
        self._averaged, self._averaged_counts = _tensors(self.module)
        self._current, self._current_counts = _tensors(model)

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the model's present weights; counts of batches are taken over."""
        kept = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.steps else 0.0
        torch._foreach_lerp_(self._averaged, self._current, 1 - kept)
        if self._averaged_counts:  # which networks without batch norms lack
            torch._foreach_copy_(self._averaged_counts, self._current_counts)
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        """The state for `load_state_dict`."""
        return {"steps": self.steps, "module": self.module.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved average."""
        self.steps = state["steps"]
        self.module.load_state_dict(state["module"])


def _tensors(model: CheXVision) -> tuple[list[Tensor], list[Tensor]]:
    """The tensors of floats and those of integers, in an order that equal models share."""
    floats: list[Tensor] = []
    counts: list[Tensor] = []
    for tensor in chain(model.parameters(), model.buffers()):
        (floats if tensor.is_floating_point() else counts).append(tensor)
    return floats, counts
