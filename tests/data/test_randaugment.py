"""Operations of RandAugment compared with torchvision's and with timm's arguments."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from timm.data import auto_augment
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from chexvision.data.augment import sample
from chexvision.data.randaugment import _LEVELS, PIXEL_OPERATIONS, change_pixels, sample_operations
from chexvision.images.radiograph import PIXEL_MEAN, PIXEL_STD
from chexvision.seeds import mix_seed
from tests.data.test_augment import augmented, only, smooth_images
from tests.data.test_crop import homogeneous

SIDE = 64
NAMES = tuple(_LEVELS)
TIMM = dict(zip(NAMES, auto_augment._RAND_INCREASING_TRANSFORMS, strict=True))


def radiographs(count: int) -> torch.Tensor:
    """uint8[count, SIDE, SIDE]: a bright and a dark side with fine structure, of different ranges of gray."""
    coarse, fine = (np.random.default_rng(seed).normal(0, 1, (count, SIDE, SIDE)) for seed in (1, 2))
    images = []
    for number in range(count):
        body = cv2.GaussianBlur(coarse[number], (0, 0), 9) * 500 + np.linspace(40, 170, SIDE)
        images.append(np.clip(body + 8 * cv2.GaussianBlur(fine[number], (0, 0), 1), 10 * number, 245 - number))
    return torch.from_numpy(np.stack(images).astype(np.uint8))


def torchvisions(name: str, image: torch.Tensor, argument: float) -> torch.Tensor:
    """uint8[1, H, W] after the operation as torchvision's RandAugment calls it."""
    bilinear: dict[str, Any] = {"interpolation": InterpolationMode.BILINEAR}
    # Translations of torchvision move the image, timm's the position that is read.
    still: dict[str, Any] = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]} | bilinear
    degrees = math.degrees(math.atan(argument))
    operations: dict[str, Callable[[], Any]] = {
        "auto_contrast": lambda: F.autocontrast(image),
        "equalize": lambda: F.equalize(image),
        "invert": lambda: F.invert(image),
        "rotate": lambda: F.rotate(image, argument, **bilinear),
        "posterize": lambda: F.posterize(image, int(argument)),
        "solarize": lambda: F.solarize(image, argument) if argument < 256 else image,
        "solarize_add": lambda: torch.where(image < 128, (image.int() + int(argument)).clamp(max=255).byte(), image),
        "contrast": lambda: F.adjust_contrast(image, argument),
        "brightness": lambda: F.adjust_brightness(image, argument),
        "sharpness": lambda: F.adjust_sharpness(image, argument),
        "shear_x": lambda: F.affine(image, **still | {"shear": [degrees, 0.0], "center": [0, 0]}),
        "shear_y": lambda: F.affine(image, **still | {"shear": [0.0, degrees], "center": [0, 0]}),
        "translate_x": lambda: F.affine(image, **still | {"translate": [-argument * SIDE, 0]}),
        "translate_y": lambda: F.affine(image, **still | {"translate": [0, -argument * SIDE]}),
    }
    changed: torch.Tensor = operations[name]()
    return changed


@pytest.mark.parametrize("name", [name for name in NAMES if name != "color"])
def test_an_operation_is_within_one_gray_level_of_torchvisions(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each image with an argument of its own."""
    count = 12
    monkeypatch.setattr("chexvision.data.randaugment._PROBABILITY", 1.0)
    monkeypatch.setattr("chexvision.data.randaugment._LEVELS", {name: _LEVELS[name]})
    images = radiographs(count)
    config = only(randaugment_ops=1, randaugment_magnitude=5.0, randaugment_std=3.0)
    parameters = sample(config, count, seed=3)
    changed = augmented(images, parameters)[:, 0] * PIXEL_STD + PIXEL_MEAN
    assert name in ("auto_contrast", "equalize", "invert") or len(set(parameters.arguments.flatten().tolist())) > 2
    for image, ours, argument in zip(images, changed * 255, parameters.arguments[:, 0].tolist(), strict=True):
        theirs = torchvisions(name, image[None], argument)[0]
        assert (theirs.float() - ours).abs().max() < 1.02, argument


def test_arguments_are_timms(monkeypatch: pytest.MonkeyPatch) -> None:
    for magnitude in (0.0, 2.0, 6.0, 9.5, 10.0):
        level = torch.tensor([magnitude / 10] * 2, dtype=torch.float64)
        for name in NAMES:
            of_level: Any = auto_augment.LEVEL_TO_ARG[TIMM[name]]
            if of_level is None or name == "color":
                continue
            ours = _LEVELS[name](level, torch.tensor([1.0, -1.0], dtype=torch.float64)).tolist()
            theirs = []
            for positive in (True, False):
                monkeypatch.setattr(random, "random", lambda: 0.1 if positive else 0.9)  # noqa: B023
                theirs += list(of_level(magnitude, {}))
            assert ours == pytest.approx(theirs), name


def test_operations_are_sampled_as_by_timm() -> None:
    """Uniformly, each applied with probability one half, at clipped normal magnitudes and with random signs."""
    config = only(randaugment_ops=2, randaugment_magnitude=6.0, randaugment_std=0.5)
    count = 3000
    operations = sample_operations(config, count, seed=1)
    numbers = Counter(operations.pixel.flatten().tolist())
    for number, name in enumerate(PIXEL_OPERATIONS):
        assert numbers[number] / (2 * count) == pytest.approx(0.5 / 15, abs=0.008), name
    moved = (operations.affine != torch.eye(3)).flatten(1).any(dim=1).float().mean()
    assert float(moved) == pytest.approx(1 - (1 - 0.5 * 5 / 15) ** 2, abs=0.03)
    bright = operations.arguments[operations.pixel == list(PIXEL_OPERATIONS).index("brightness")]
    assert float((bright > 1).float().mean()) == pytest.approx(0.5, abs=0.1)
    assert float((bright - 1).abs().mean()) == pytest.approx(0.54, abs=0.01)
    assert float((bright - 1).abs().std()) == pytest.approx(0.045, abs=0.01)


def test_each_image_has_its_operations_in_their_order() -> None:
    images = radiographs(3)
    first, second = (list(PIXEL_OPERATIONS).index(name) for name in ("solarize", "brightness"))
    numbers = torch.tensor([[first, second], [second, first], [-1, -1]])
    arguments = torch.tensor([[100.0, 0.6], [0.6, 100.0], [0.0, 0.0]])
    changed = (change_pixels(images[:, None] / 255, numbers, arguments)[:, 0] * 255).round().byte()
    one, other, none = (image[None] for image in images)
    assert torch.equal(changed[0][None], F.adjust_brightness(F.solarize(one, 100), 0.6))
    assert torch.equal(changed[1][None], F.solarize(F.adjust_brightness(other, 0.6), 100))
    assert torch.equal(changed[2][None], none)


def test_geometric_operations_follow_the_crop_and_the_flip_in_one_map() -> None:
    settings = {"crop_scale": 0.4, "hflip": 0.5, "rotate_degrees": 10.0}
    before = homogeneous(sample(only(**settings), 64, seed=2).affine)
    config = only(randaugment_ops=3, **settings)
    operations = sample_operations(config, 64, mix_seed(2, 2)).affine
    assert len(torch.unique(operations, dim=0)) > 20
    torch.testing.assert_close(homogeneous(sample(config, 64, seed=2).affine), before @ operations)


def test_geometric_operations_of_an_image_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chexvision.data.randaugment._LEVELS", {"rotate": _LEVELS["rotate"]})
    monkeypatch.setattr("chexvision.data.randaugment._PROBABILITY", 1.0)
    operations = sample_operations(only(randaugment_ops=3), 20, seed=1)
    angles = torch.rad2deg(torch.atan2(operations.affine[:, 1, 0], operations.affine[:, 0, 0]))
    torch.testing.assert_close(angles, operations.arguments.sum(dim=1), atol=1e-3, rtol=0)


def test_a_micro_batch_has_the_operations_of_the_full_batch() -> None:
    images = smooth_images(24, 40)
    parameters = sample(only(randaugment_ops=3), 24, seed=4)
    full = augmented(images, parameters)
    for part in (torch.tensor([4, 1, 17]), torch.arange(8, 24)):
        assert torch.equal(augmented(images[part], parameters[part]), full[part])


def test_other_parameters_are_not_changed_by_randaugment() -> None:
    settings = {"blur": 0.5, "erase": 0.5, "brightness": 0.2, "contrast": 0.3, "crop_scale": 0.5}
    without, with_it = (sample(only(randaugment_ops=count, **settings), 40, seed=3) for count in (0, 2))
    assert without.operations.shape == (40, 0)
    for name in ("brightness", "contrast", "blur_sigma", "erase"):
        assert torch.equal(getattr(without, name), getattr(with_it, name))
