"""Test-time augmentation: views of an image that should not change the prediction. Probabilities are averaged.

Every view has the size that the network was trained at, with one exception: `multi-scale` gives networks that take
any size smaller and larger inputs.
"""

from __future__ import annotations

from itertools import product

import torch.nn.functional as F
from torch import Tensor

from chexvision.config.test_time import Tta
from chexvision.models.network_engine import PLAIN, View, unchanged

_DEGREES = 7.0
# The crops' share of the side: 224 of 256 pixels in the evaluations of CheXNet's reproductions (arnoweng/CheXNet,
# zoogzog/chexnet), which average the probabilities of ten crops.
_CROP = 224 / 256
_SCALES = (0.875, 1.0, 1.125)


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


def cropped(vertical: float, horizontal: float, *, flip: bool) -> View:
    """A square of `_CROP` of the side, enlarged to the image's size.

    Args:
        vertical: where it is, from 0 (at the top) to 1 (at the bottom).
        horizontal: from 0 (at the left) to 1 (at the right).
        flip: whether its left and right are exchanged.
    """

    def view(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        high, wide = round(_CROP * height), round(_CROP * width)
        top, left = round(vertical * (height - high)), round(horizontal * (width - wide))
        crop = _resized(images[:, top : top + high, left : left + wide], height, width)
        return crop.flip(-1) if flip else crop

    return view


def zoomed(scale: float) -> View:
    """Enlarged or reduced about the center within an input of the same size, black where the image ends."""

    def view(images: Tensor) -> Tensor:
        from torchvision.transforms.v2.functional import InterpolationMode, affine

        moved: Tensor = affine(
            images.unsqueeze(1).float(), 0.0, [0, 0], scale, [0.0, 0.0], interpolation=InterpolationMode.BILINEAR
        )
        return moved.squeeze(1)

    return view


def resized(scale: float) -> View:
    """A smaller or larger input."""

    def view(images: Tensor) -> Tensor:
        height, width = (round(scale * side) for side in images.shape[-2:])
        return _resized(images, height, width)

    return view


def _resized(images: Tensor, height: int, width: int) -> Tensor:
    size = (height, width)
    return F.interpolate(
        images.unsqueeze(1).float(), size, mode="bilinear", align_corners=False, antialias=True
    ).squeeze(1)


_CENTERS = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5))


def views_of(tta: Tta, *, any_size: bool) -> tuple[View, ...]:
    """The views of a test-time augmentation, the unchanged image first where it is one of them.

    Args:
        tta: which one.
        any_size: whether the network takes inputs of other sizes than it was trained at.
    """
    scaled = resized if any_size else zoomed
    views: dict[Tta, tuple[View, ...]] = {
        "none": PLAIN,
        "flip": (unchanged, flipped),
        "views": (unchanged, flipped, rotated(-_DEGREES), rotated(_DEGREES)),
        "ten-crop": tuple(cropped(*center, flip=flip) for flip, center in product((False, True), _CENTERS)),
        "multi-scale": (unchanged, *(scaled(scale) for scale in _SCALES if scale != 1)),
    }
    return views[tta]
