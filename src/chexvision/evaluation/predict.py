"""A model's probabilities for every image of a split, over all processes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor, nn

from chexvision.data.augment import plain
from chexvision.data.dataset import Split
from chexvision.data.loader import Place, in_order

LossOfBatch = Callable[[dict[str, Tensor], Tensor], Tensor]


@torch.inference_mode()
def predict_split(
    model: nn.Module, split: Split, accelerator: Accelerator, batch_size: int, loss: LossOfBatch | None = None
) -> tuple[NDArray[np.float32], float]:
    """Predict a split, each image exactly once, divided among the processes.

    Args:
        model: in evaluation mode, not wrapped for training in several processes.
        split: what to predict.
        accelerator: gives device, precision and the other processes.
        batch_size: images a forward pass.
        loss: turns logits and targets into float[B].

    Returns:
        float[N, 15] probabilities (the findings, then normal/abnormal) in the split's order, and the mean loss
        (0 without `loss`).
    """
    place = Place(accelerator.device, accelerator.process_index, accelerator.num_processes)
    parts: list[Tensor] = []
    losses: list[Tensor] = []
    for batch in in_order(split, batch_size, place):
        with accelerator.autocast():
            logits = model(plain(batch.images))
        if loss is not None:
            losses.append(loss(logits, batch.targets))
        parts.append(torch.cat([logits["multilabel_logits"], logits["binary_logits"]], dim=1).float().sigmoid())
    mine = torch.cat(parts).cpu().numpy() if parts else np.zeros((0, split.targets.shape[1]), np.float32)
    total = float(torch.cat(losses).double().sum()) if losses else 0.0
    shares = gather_object([(mine, total)])
    probabilities = np.concatenate([share[0] for share in shares])
    return probabilities, sum(share[1] for share in shares) / max(1, len(split))
