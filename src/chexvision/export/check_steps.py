"""The input check as tensor operations; the reference is `InputCheck.measure`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from chexvision.predict.input_check import (
    SMALLEST_DEVIATION,
    SMALLEST_NORM,
    Gaussian,
    InputCheck,
    thumbnail_weights,
)


class CheckSteps(nn.Module):
    """The values of a model's input check.

    Args:
        check: that it was published with.
        side: of its input images in pixels.
    """

    weights: Tensor

    def __init__(self, check: InputCheck, side: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.from_numpy(thumbnail_weights(side)).float(), persistent=False)
        self.features = Distance(check.features)
        self.thumbnail = Distance(check.thumbnail)

    def forward(self, images: Tensor, features: Tensor) -> Tensor:
        """Equalized images float[B, S, S] of whole numbers and their pooled features float[B, C] to float[B, 4]."""
        small = (self.weights @ images @ self.weights.T).flatten(1)
        centered = small - small.mean(dim=1, keepdim=True)
        deviation = centered.square().mean(dim=1, keepdim=True).sqrt()
        layout = centered / deviation.clamp(min=SMALLEST_DEVIATION)
        norm = features.square().mean(dim=1, keepdim=True).sqrt()
        return torch.cat(
            [
                self.features(features / norm.clamp(min=SMALLEST_NORM)),
                self.thumbnail(layout),
                -deviation,
                -(layout * self.thumbnail.mean).mean(dim=1, keepdim=True),
            ],
            dim=1,
        )


class Distance(nn.Module):
    """`Gaussian.distance`."""

    mean: Tensor
    basis: Tensor
    variances: Tensor
    rest: Tensor

    def __init__(self, gaussian: Gaussian) -> None:
        super().__init__()
        for name in gaussian.__slots__:
            self.register_buffer(name, torch.from_numpy(np.array(getattr(gaussian, name))), persistent=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """float[B, k] to float[B, 1]."""
        centered = vectors - self.mean
        along = (centered @ self.basis.T).square()
        orthogonal = centered.square().sum(dim=1) - along.sum(dim=1)
        total = (along / self.variances).sum(dim=1) + orthogonal.clamp(min=0) / self.rest
        return (total / vectors.shape[1]).sqrt()[:, None]
