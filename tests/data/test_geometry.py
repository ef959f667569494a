"""Augmentation of a radiograph compared with OpenCV and with the units of the recipe."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from chexvision.data.augment import AugmentParameters, sample
from chexvision.images.radiograph import PIXEL_MEAN, PIXEL_STD
from chexvision.recipes import load_recipe
from tests.data.test_augment import augmented, only, smooth_images

COUNT = 256


def pixels(changed: torch.Tensor) -> torch.Tensor:
    """The network's input, float[B, 3, H, W], as gray values in [0, 1]: float[B, H, W]."""
    return changed[:, 0] * PIXEL_STD + PIXEL_MEAN


def linear(parameters: AugmentParameters) -> np.ndarray:
    """float[B, 2, 2], input to output without the shift."""
    return np.linalg.inv(parameters.affine[:, :, :2].double().numpy())


def spans(values: np.ndarray, low: float, high: float) -> bool:
    """Whether values are within a range and reach close to both ends."""
    margin = 0.05 * (high - low)
    within = bool(values.min() >= low - 1e-6 and values.max() <= high + 1e-6)
    return within and bool(values.min() < low + margin and values.max() > high - margin)


def test_translation_is_a_fraction_of_the_side_length() -> None:
    image = torch.zeros((COUNT, 41, 41), dtype=torch.uint8)
    image[:, 20, 20] = 255
    shown = pixels(augmented(image, sample(only(translate=0.25), COUNT, seed=1))).numpy()
    at = np.arange(41)
    for axis in (1, 2):
        shift = (shown * np.expand_dims(at, (0, 3 - axis))).sum(axis=(1, 2)) / shown.sum(axis=(1, 2)) - 20
        assert spans(shift, -0.25 * 41, 0.25 * 41)


def test_scale_is_isotropic_in_both_directions() -> None:
    matrix = linear(sample(only(scale=0.2), COUNT, seed=1))
    assert spans(matrix[:, 0, 0], 0.8, 1.2)
    np.testing.assert_allclose(matrix, matrix[:, :1, :1] * np.eye(2), atol=1e-6)


def test_shear_is_in_degrees() -> None:
    matrix = linear(sample(only(shear_degrees=20.0), COUNT, seed=1))
    upright = matrix @ [0.0, 1.0]
    assert spans(np.degrees(np.arctan2(upright[:, 0], upright[:, 1])), -20, 20)
    np.testing.assert_allclose(matrix @ [1.0, 0.0], np.tile([1.0, 0.0], (COUNT, 1)), atol=1e-6)


def test_rotation_is_in_degrees_in_both_directions() -> None:
    matrix = linear(sample(only(rotate_degrees=15.0), COUNT, seed=1))
    assert spans(np.degrees(np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0])), -15, 15)
    np.testing.assert_allclose(matrix @ matrix.transpose(0, 2, 1), np.tile(np.eye(2), (COUNT, 1, 1)), atol=1e-6)


def test_the_recipes_affine_warp_matches_opencv() -> None:
    """All geometry together; both map output to input coordinates, OpenCV in pixels."""
    size, count = 65, 8
    images = smooth_images(count, size)
    recipe = load_recipe("densenet").augment
    geometry = {
        key: getattr(recipe, key) for key in ("hflip", "rotate_degrees", "translate", "shear_degrees", "scale")
    }
    parameters = sample(only(**geometry), count, seed=4)
    shown = pixels(augmented(images, parameters)).numpy()
    to_unit = np.array([[2 / size, 0, 1 / size - 1], [0, 2 / size, 1 / size - 1], [0, 0, 1]])
    for image, affine, ours in zip(images.numpy(), parameters.affine.double().numpy(), shown, strict=True):
        in_pixels = np.linalg.inv(to_unit) @ np.vstack([affine, [0, 0, 1]]) @ to_unit
        theirs = cv2.warpAffine(
            image.astype(np.float32) / 255, in_pixels[:2], (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
        assert np.abs(ours - theirs).max() < 0.02  # OpenCV takes positions in 1/32 of a pixel


def grey_images(count: int) -> torch.Tensor:
    """Mid-grey with texture: no change of the tests' size reaches black or white."""
    noise = np.random.default_rng(0).normal(128, 12, (count, 32, 32))
    return torch.from_numpy(noise.clip(80, 176).astype(np.uint8))


def test_contrast_is_around_the_mean_of_each_image() -> None:
    images = grey_images(COUNT)
    before = images.float() / 255
    after = pixels(augmented(images, sample(only(contrast=0.5), COUNT, seed=1)))
    torch.testing.assert_close(after.mean(dim=(1, 2)), before.mean(dim=(1, 2)), atol=1e-4, rtol=0)
    assert spans((after.std(dim=(1, 2)) / before.std(dim=(1, 2))).numpy(), 0.5, 1.5)


def test_brightness_is_added() -> None:
    images = grey_images(COUNT)
    before = images.float() / 255
    change = pixels(augmented(images, sample(only(brightness=0.2), COUNT, seed=1))) - before
    assert spans(change.mean(dim=(1, 2)).numpy(), -0.2, 0.2)
    assert float(change.std(dim=(1, 2)).max()) < 1e-4


def test_contrast_does_not_change_how_much_brightness_is_added() -> None:
    images = grey_images(COUNT)
    parameters = sample(only(brightness=0.1, contrast=0.5), COUNT, seed=1)
    change = pixels(augmented(images, parameters)).mean(dim=(1, 2)) - (images.float() / 255).mean(dim=(1, 2))
    torch.testing.assert_close(change, parameters.brightness, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("key", "share"), [("hflip", 0.3), ("blur", 0.3), ("erase", 0.3)])
def test_a_probability_is_the_fraction_of_augmented_images(key: str, share: float) -> None:
    parameters = sample(only(**{key: share}), 2000, seed=1)
    changed = {
        "hflip": parameters.affine[:, 0, 0] < 0,
        "blur": parameters.blur_sigma > 0,
        "erase": parameters.erase[:, 2] > parameters.erase[:, 0],
    }[key]
    assert float(changed.float().mean()) == pytest.approx(share, abs=0.04)


def test_erased_areas_and_blurs_stay_within_their_limits() -> None:
    parameters = sample(only(erase=1.0, erase_area=0.2, blur=1.0, blur_sigma=2.0), 2000, seed=1)
    top, left, bottom, right = parameters.erase.T
    assert spans(((bottom - top) * (right - left)).numpy(), 0.02, 0.2)
    assert float(parameters.erase.min()) >= 0 and float(parameters.erase.max()) <= 1
    assert spans(parameters.blur_sigma.numpy(), 0.1, 2.0)
    aspect = ((bottom - top) / (right - left)).log().numpy()
    assert spans(aspect, -np.log(3), np.log(3))
