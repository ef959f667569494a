from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from torchvision.transforms import v2

from chexvision.config.data_config import AugmentConfig
from chexvision.data.augment import AugmentParameters, augment, sample
from chexvision.images.radiograph import PIXEL_MEAN, PIXEL_STD
from chexvision.models.normalize import plain
from chexvision.recipes import load_recipe

RECIPE = load_recipe("densenet").augment
RECIPE_OF_THE_FIRST_VERSION = AugmentConfig(
    hflip=0.5, rotate_degrees=15.0, translate=0.05, shear_degrees=5.0, scale=0.1, brightness=0.2, contrast=0.2,
    blur=0.1, blur_sigma=1.5, erase=0.1, erase_area=0.1,
)  # fmt: skip
NOTHING: dict[str, float] = {
    name: 0.0 for name, field in AugmentConfig.model_fields.items() if field.is_required()
} | {"blur_sigma": 1.0, "erase_area": 0.1}


def only(**changes: float) -> AugmentConfig:
    return AugmentConfig.model_validate(NOTHING | changes)


def augmented(images: torch.Tensor, parameters: AugmentParameters) -> torch.Tensor:
    """As a network with the usual mean and standard deviation takes them."""
    return augment(images, parameters, PIXEL_MEAN, PIXEL_STD)


def smooth_images(count: int = 4, size: int = 48) -> torch.Tensor:
    """Smooth images, all different, none symmetric."""
    noise = np.random.default_rng(0).integers(0, 256, (count, size, size), np.uint8)
    return torch.from_numpy(np.stack([cv2.GaussianBlur(image, (0, 0), 4) for image in noise]))


def test_no_augmentation_leaves_images_unchanged() -> None:
    images = smooth_images()
    changed = augmented(images, sample(only(), len(images), seed=1))
    assert torch.allclose(changed, plain(images), atol=1e-4)
    assert changed.shape == (4, 3, 48, 48)
    assert changed.stride()[1] == 0  # three channels, one in memory


def test_plain_normalizes_grey() -> None:
    value = plain(torch.full((1, 2, 2), 255, dtype=torch.uint8))
    assert torch.allclose(value, torch.full_like(value, (1 - PIXEL_MEAN) / PIXEL_STD))


def test_flip_mirrors_the_image() -> None:
    images = smooth_images()
    assert torch.allclose(augmented(images, sample(only(hflip=1.0), 4, seed=1)), plain(images.flip(2)), atol=1e-4)


def test_rotation_matches_opencv() -> None:
    images = smooth_images(1, 65)
    parameters = sample(only(rotate_degrees=15.0), 1, seed=3)
    angle = float(torch.rad2deg(torch.atan2(parameters.affine[0, 1, 0], parameters.affine[0, 0, 0])))
    assert 1 < abs(angle) <= 15
    turned = cv2.warpAffine(images[0].numpy(), cv2.getRotationMatrix2D((32, 32), angle, 1), (65, 65))
    ours = augmented(images, parameters)[0, 0]
    theirs = plain(torch.from_numpy(turned)[None])[0, 0]
    inner = slice(12, 53)
    assert (ours - theirs)[inner, inner].abs().max() < 0.05


def test_each_image_is_blurred_with_its_own_gaussian() -> None:
    images = smooth_images(3, 48)
    images[:, 20:28, 20:28] = 255
    parameters = sample(only(), 3, seed=1)
    parameters = replace(parameters, blur_sigma=torch.tensor([0.0, 0.8, 2.0]))
    changed = augmented(images, parameters)[:, 0]
    assert torch.allclose(changed[0], plain(images[:1])[0, 0], atol=1e-4)
    for i, sigma in ((1, 0.8), (2, 2.0)):
        expected = cv2.GaussianBlur(
            images[i].numpy().astype(np.float32) / 255, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE
        )
        assert np.abs((expected - PIXEL_MEAN) / PIXEL_STD - changed[i].numpy()).max() < 0.02


def test_erasing_fills_one_rectangle_with_the_mean() -> None:
    images = torch.zeros((64, 40, 40), dtype=torch.uint8)
    erased = augmented(images, sample(only(erase=1.0), 64, seed=2))[:, 0] == 0
    share = erased.float().mean(dim=(1, 2))
    assert (share > 0.005).all() and (share < 0.13).all()
    rows, columns = erased.any(dim=2).sum(dim=1), erased.any(dim=1).sum(dim=1)
    assert torch.equal(rows * columns, erased.sum(dim=(1, 2)))  # a full rectangle each


def test_brightness_and_contrast_stay_within_white_and_black() -> None:
    images = smooth_images(32)
    changed = augmented(images, sample(only(brightness=0.5, contrast=0.5), 32, seed=2))[:, 0] * PIXEL_STD + PIXEL_MEAN
    assert changed.min() >= -1e-6 and changed.max() <= 1 + 1e-6
    means = changed.mean(dim=(1, 2))
    assert means.std() > 0.1  # each image differently


def test_parameters_are_sampled_per_image_and_repeat_with_the_seed() -> None:
    first, again, other = (sample(RECIPE_OF_THE_FIRST_VERSION, 96, seed) for seed in (7, 7, 8))
    assert torch.equal(first.affine, again.affine) and torch.equal(first.erase, again.erase)
    assert not torch.equal(first.affine, other.affine)
    assert len(torch.unique(first.brightness)) == 96
    assert 30 < int((first.affine[:, 0, 0] < 0).sum()) < 66  # flips
    assert 1 <= int((first.blur_sigma > 0).sum()) <= 25


def test_recipes_without_newer_keys_keep_their_random_numbers() -> None:
    """Values of the first version, which sampled these parameters alone."""
    parameters = sample(RECIPE_OF_THE_FIRST_VERSION, 3, seed=7)
    expected = {
        "affine": [-1.0620507, -0.00966671, 0.07025368, 0.01942218, 1.0625826, 0.07098863],  # of the first image
        "brightness": [-0.12189674, 0.0962096, -0.09884804],
        "contrast": [0.8932602, 1.1725655, 1.1830152],
        "erase": [0.56907266, 0.38874197, 0.56907266, 0.38874197],
    }
    for name, values in expected.items():
        torch.testing.assert_close(getattr(parameters, name).flatten()[: len(values)], torch.tensor(values))
    assert parameters.operations.shape == (3, 0)


def test_images_are_reduced_with_antialiasing_before_they_are_augmented() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 96, 96), np.uint8))
    reduced = v2.functional.resize(images[:, None].float() / 255, [32, 32], antialias=True)[:, 0]
    shown = augment(images, sample(only(), 4, seed=1), PIXEL_MEAN, PIXEL_STD, size=32)
    assert shown.shape == (4, 3, 32, 32)
    torch.testing.assert_close(shown[:, 0] * PIXEL_STD + PIXEL_MEAN, reduced, atol=1e-5, rtol=0)


def test_mirroring_comes_before_everything_else() -> None:
    images = smooth_images(6)
    parameters = sample(RECIPE, 6, seed=4)
    chosen = torch.tensor([True, False, True, True, False, False])
    flipped = torch.where(chosen[:, None, None], images.flip(2), images)
    shown = augmented(images, parameters.mirrored(chosen))
    torch.testing.assert_close(shown, augmented(flipped, parameters), atol=2e-5, rtol=0)
    assert torch.equal(shown[~chosen], augmented(images, parameters)[~chosen])


def test_a_micro_batch_is_augmented_as_in_the_full_batch() -> None:
    images = smooth_images(6)
    parameters = sample(RECIPE, 6, seed=4)
    full = augmented(images, parameters)
    part = torch.tensor([4, 1])
    assert torch.allclose(augmented(images[part], parameters[part]), full[part], atol=1e-5)
