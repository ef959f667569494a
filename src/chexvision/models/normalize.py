"""Pixels as networks take them."""

from __future__ import annotations

from torch import Tensor

from chexvision.radiograph import PIXEL_MEAN, PIXEL_STD


def plain(images: Tensor, mean: float = PIXEL_MEAN, std: float = PIXEL_STD) -> Tensor:
    """Normalize uint8[B, H, W], or float in [0, 255], into float[B, 3, H, W], unchanged otherwise."""
    return as_input(images.unsqueeze(1).float() / 255, mean, std)


def as_input(x: Tensor, mean: float = PIXEL_MEAN, std: float = PIXEL_STD) -> Tensor:
    """Normalize float[B, 1, H, W] in [0, 1]; the three channels are one in memory."""
    return ((x - mean) / std).expand(-1, 3, -1, -1)
