"""Random resized crops compared with torchvision's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.stats import ks_2samp
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from chexvision.data.augment import sample
from chexvision.models.normalize import plain
from tests.data.test_augment import augmented, only, smooth_images

COUNT = 4000
SIDE = 1000  # of torchvision's image: its crops are of full pixels


def crops(**settings: float) -> np.ndarray:
    """float[COUNT, 4]: left, top, width, height as shares of the side, read off the affine maps."""
    affine = sample(only(**settings), COUNT, seed=1).affine.double().numpy()
    size = np.stack([affine[:, 0, 0], affine[:, 1, 1]], axis=1)
    return np.concatenate([(affine[:, :, 2] + 1 - size) / 2, size], axis=1)


def torchvisions(scale: float, ratio: float) -> np.ndarray:
    torch.manual_seed(0)
    transform = v2.RandomResizedCrop(SIDE, scale=(scale, 1.0), ratio=(1 / ratio, ratio))
    blank = [torch.empty((1, SIDE, SIDE), dtype=torch.uint8)]
    made = [transform.make_params(blank) for _ in range(COUNT)]
    return np.array([[crop[key] for key in ("left", "top", "width", "height")] for crop in made]) / SIDE


# Of float[N, 4]: left, top, width, height.
MEASURES: dict[str, Callable[[Any], Any]] = {
    "area": lambda crops: crops[:, 2] * crops[:, 3],
    "logarithm of the aspect ratio": lambda crops: np.log(crops[:, 2] / crops[:, 3]),
    "left edge": lambda crops: crops[:, 0],
    "bottom edge": lambda crops: crops[:, 1] + crops[:, 3],
}


def homogeneous(affine: torch.Tensor) -> torch.Tensor:
    """float[B, 3, 3]"""
    return torch.cat([affine, torch.tensor([0.0, 0.0, 1.0]).expand(len(affine), 1, 3)], dim=1)


def test_areas_ratios_and_positions_are_distributed_as_torchvisions() -> None:
    for scale, ratio in ((0.3, 4 / 3), (0.7, 3.0), (0.08, 4 / 3)):
        ours, theirs = crops(crop_scale=scale, crop_ratio=ratio), torchvisions(scale, ratio)
        for name, measure in MEASURES.items():
            # Theirs are rounded to 1/1000 of the side, which alone is a distance of the order of 0.005.
            assert ks_2samp(measure(ours), measure(theirs)).statistic < 0.035, (scale, ratio, name)
    assert (ours[:, :2] > -1e-6).all() and (ours[:, :2] + ours[:, 2:] < 1 + 1e-6).all()


def test_where_no_try_fits_the_crop_is_the_entire_image_as_often_as_torchvisions() -> None:
    ours, theirs = crops(crop_scale=0.97, crop_ratio=4.0), torchvisions(0.97, 4.0)
    shares = [(of[:, 2:] == 1).all(axis=1).mean() for of in (ours, theirs)]
    assert 0.5 < shares[0] < 1
    assert abs(shares[0] - shares[1]) < 0.03


def test_a_crop_is_resized_to_the_size_of_the_image() -> None:
    """Away from its edges, where torchvision's interpolation does not see the pixels outside."""
    images = smooth_images(6, 64)
    parameters = sample(only(crop_scale=0.3), 6, seed=2)
    ours = augmented(images, parameters)[:, 0]
    for image, affine, shown in zip(images, parameters.affine, ours, strict=True):
        (width, x), (height, y) = (
            (round(64 * float(row[i])), round(32 * float(row[2] + 1 - row[i]))) for i, row in enumerate(affine)
        )
        theirs = F.resized_crop(image[None], y, x, height, width, [64, 64], antialias=True)
        # Theirs lies on full pixels: half a pixel of these smooth images.
        assert (plain(theirs)[0, 0] - shown)[3:-3, 3:-3].abs().max() < 0.12


def test_a_crop_is_taken_before_flip_rotation_shear_and_shift() -> None:
    """One map does what cropping, resizing and then warping do."""
    geometry = {"hflip": 0.5, "rotate_degrees": 20.0, "translate": 0.1, "shear_degrees": 10.0, "scale": 0.1}
    together = sample(only(crop_scale=0.4, **geometry), 8, seed=5)
    cropped = sample(only(crop_scale=0.4), 8, seed=5)
    warped = sample(only(**geometry), 8, seed=5)
    to_crop, to_image = (homogeneous(part.affine) for part in (warped, cropped))
    torch.testing.assert_close(homogeneous(together.affine), to_image @ to_crop)


def test_without_a_crop_the_random_numbers_are_those_of_before() -> None:
    """A crop has its own generator: it changes no other parameter."""
    geometry = {"blur": 0.5, "erase": 0.5, "brightness": 0.2, "contrast": 0.3, "rotate_degrees": 9.0}
    without, with_crop = (sample(only(crop_scale=scale, **geometry), 40, seed=3) for scale in (1.0, 0.5))
    for name in ("brightness", "contrast", "blur_sigma", "erase"):
        assert torch.equal(getattr(without, name), getattr(with_crop, name))
    assert not torch.equal(without.affine, with_crop.affine)
