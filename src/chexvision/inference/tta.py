"""Test-time augmentation: views of an image that should not change the prediction."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

View = Callable[[Tensor], Tensor]  # uint8[B, H, W] to the same images seen otherwise, uint8 or float in [0, 255]

_DEGREES = 7.0


def unchanged(images: Tensor) -> Tensor:
    """The images as they are."""
    return images


def flipped(images: Tensor) -> Tensor:
    """Left and right exchanged."""
    return images.flip(-1)


def rotated(degrees: float) -> View:
    """Rotated about the center, black where the image ends."""

    def view(images: Tensor) -> Tensor:
        # As long to import as torch, and needed by few.
        from torchvision.transforms.v2.functional import InterpolationMode, rotate

        turned: Tensor = rotate(images.unsqueeze(1).float(), degrees, interpolation=InterpolationMode.BILINEAR)
        return turned.squeeze(1)

    return view


PLAIN: tuple[View, ...] = (unchanged,)
TTA: tuple[View, ...] = (unchanged, flipped, rotated(-_DEGREES), rotated(_DEGREES))
