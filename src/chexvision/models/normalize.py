"""Pixels as networks take them."""

from __future__ import annotations

from torch import Tensor

from chexvision.backbones import facts
from chexvision.images.radiograph import PIXEL_MEAN, PIXEL_STD
from chexvision.models.timm_backbone import known_network


def plain(images: Tensor, mean: float = PIXEL_MEAN, std: float = PIXEL_STD) -> Tensor:
    """Normalize uint8[B, H, W], or float in [0, 255], into float[B, 3, H, W], unchanged otherwise."""
    return as_input(images.unsqueeze(1).float() / 255, mean, std)


def as_input(x: Tensor, mean: float = PIXEL_MEAN, std: float = PIXEL_STD) -> Tensor:
    """Normalize float[B, 1, H, W] in [0, 1]; the three channels are one in memory."""
    return ((x - mean) / std).expand(-1, 3, -1, -1)


def mean_and_std(backbone: str) -> tuple[float, float]:
    """What the weights of a network expect images in [0, 1] to be normalized with: averages over the channels.

    Raises:
        ChexError: timm has no such network.
    """
    known = facts(backbone)
    if known.mean is not None and known.std is not None:
        return known.mean, known.std
    if not known.timm:  # a network of its own, which has no weights of others
        return PIXEL_MEAN, PIXEL_STD
    config = known_network(known.timm)
    return sum(config.mean) / len(config.mean), sum(config.std) / len(config.std)
