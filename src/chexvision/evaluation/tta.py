"""Test-time augmentation: what a picture looks like in views that should not change the answer."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode, rotate

from chexvision.data.augment import plain

View = Callable[[Tensor], Tensor]  # uint8[B, H, W] to what the network takes, float[B, 3, H, W]

_DEGREES = 7.0


def flipped(images: Tensor) -> Tensor:
    """Left and right exchanged."""
    return plain(images.flip(-1))


def rotated(degrees: float) -> View:
    """Turned about the middle, black where the picture ends."""

    def view(images: Tensor) -> Tensor:
        turned = rotate(images.unsqueeze(1).float(), degrees, interpolation=InterpolationMode.BILINEAR)
        return plain(turned.squeeze(1))

    return view


PLAIN: tuple[View, ...] = (plain,)
TTA: tuple[View, ...] = (plain, flipped, rotated(-_DEGREES), rotated(_DEGREES))
