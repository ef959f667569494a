"""Maps of an ensemble: the weighted mean of its members' maps, each made from the image as that member takes it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from chexvision.artifact.load import Ensemble
from chexvision.inference.gradcam import explain_batch
from chexvision.predict.engine import HeatMaps, Outputs, finite


def explain_members(
    ensemble: Ensemble, pixels: Sequence[NDArray[np.uint8]], outputs: NDArray[np.int64]
) -> tuple[Outputs, HeatMaps]:
    """Classify images and explain some outputs of each, as `explain_batch` does for one model.

    Members' maps of different sizes are enlarged to the largest of them.

    Args:
        ensemble: on the device to use.
        pixels: for each member, the images as it takes them: uint8[B, S, S].
        outputs: int64[B, M], which outputs to explain.

    Raises:
        ChexError: a member computes something that is not a number.
    """
    chosen = torch.from_numpy(outputs)
    parts = []
    for member, images in zip(ensemble.members, pixels, strict=True):
        device = next(member.parameters()).device
        parts.append(explain_batch(member, member.normalize(torch.from_numpy(images).to(device)), chosen))
    height, width = (max(part.values.shape[axis] for part in parts) for axis in (2, 3))
    probabilities = _mean([part.probabilities for part in parts], ensemble.weights)
    values = _mean([_enlarged(part.values, height, width) for part in parts], ensemble.weights)
    method = " and ".join(sorted({part.method for part in parts}))
    return Outputs(finite(probabilities.cpu().numpy())), HeatMaps(values.cpu().numpy(), outputs, method)


def _enlarged(values: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(values, size=(height, width), mode="bilinear", align_corners=False)


def _mean(values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    return torch.stack([weight * value for weight, value in zip(weights, values, strict=True)]).sum(dim=0)
