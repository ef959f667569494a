"""A model's probabilities for every image of a split, over all processes, or for image files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor

from chexvision.data.dataset import Split
from chexvision.data.loader import Rank, in_order
from chexvision.inference.prepare import prepared
from chexvision.metrics.ranking import Floats
from chexvision.models.classifier import CheXVision
from chexvision.models.network_engine import PLAIN, View, forward
from chexvision.predict.engine import finite

LossOfBatch = Callable[[dict[str, Tensor], Tensor], Tensor]


@torch.inference_mode()
def predict_split(
    model: CheXVision,
    split: Split,
    accelerator: Accelerator,
    batch_size: int,
    loss: LossOfBatch | None = None,
    views: Sequence[View] = PLAIN,
    on_batch: Callable[[int], None] | None = None,
) -> tuple[NDArray[np.float32], float]:
    """Predict a split, each image exactly once, divided among the processes.

    Args:
        model: in evaluation mode, not wrapped for training in several processes.
        split: what to predict.
        accelerator: gives device, precision and the other processes.
        batch_size: images per forward pass.
        loss: turns logits and targets into float[B]; taken of the last view.
        views: of each image; probabilities are averaged over them.
        on_batch: called with how many more images are done, for a progress bar.

    Returns:
        float[N, K + 1] probabilities (the findings, then normal/abnormal) in the split's order, and the mean loss
        (0 without `loss`).
    """
    parts: list[Tensor] = []
    losses: list[Tensor] = []
    for batch in in_order(split, batch_size, _rank(accelerator)):
        found = forward(model, batch.images, views, accelerator.autocast)
        if loss is not None:
            losses.append(loss(found.logits, batch.targets))
        parts.append(found.probabilities)
        if on_batch is not None:
            on_batch(len(batch.images))
    total = float(torch.cat(losses).double().sum()) if losses else 0.0
    return _gathered(parts, len(model.label_space.outputs)), sum(gather_object([total])) / max(1, len(split))


@torch.inference_mode()
def predict_with_features(
    model: CheXVision, split: Split, accelerator: Accelerator, batch_size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """As `predict_split`: the probabilities, and the features float[N, C] that they are computed from."""
    probabilities: list[Tensor] = []
    features: list[Tensor] = []
    for batch in in_order(split, batch_size, _rank(accelerator)):
        found = forward(model, batch.images, PLAIN, accelerator.autocast)
        probabilities.append(found.probabilities)
        features.append(found.features.float())
    outputs, channels = len(model.label_space.outputs), model.pooling.channels
    return _gathered(probabilities, outputs), _gathered(features, channels)


def _rank(accelerator: Accelerator) -> Rank:
    return Rank(accelerator.device, accelerator.process_index, accelerator.num_processes)


def _gathered(parts: list[Tensor], width: int) -> NDArray[np.float32]:
    """The rows of all processes: float32[N, width]; each has computed some, or none."""
    mine = torch.cat(parts).cpu().numpy() if parts else np.zeros((0, width), np.float32)
    return np.concatenate(gather_object([mine]))


@torch.inference_mode()
def predict_paths(
    model: CheXVision,
    paths: Sequence[Path],
    accelerator: Accelerator,
    batch_size: int,
    views: Sequence[View] = PLAIN,
    on_batch: Callable[[int], None] | None = None,
) -> Floats:
    """Predict image files: float64[N, K + 1], prepared as the model's training images were.

    Raises:
        UsageError: a file is missing or not an image.
        ChexError: the model computes something that is not a number.
    """
    parts = []
    for images in prepared(model, paths, batch_size):
        batch = torch.from_numpy(images).to(accelerator.device)
        parts.append(forward(model, batch, views, accelerator.autocast).probabilities.cpu().numpy())
        if on_batch is not None:
            on_batch(len(images))
    return finite(np.concatenate(parts))
