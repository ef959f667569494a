from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from chexvision.config.data_config import ClaheConfig
from chexvision.export.image_steps import Clahe, ImageSteps, resize
from chexvision.images.preprocessing import Preprocessing
from chexvision.images.radiograph import Grey, make_clahe, resize_area
from chexvision.synthetic.anatomy import sample_chest
from chexvision.synthetic.render import render_radiograph

WHOLE_RATIOS = [(64, 64), (128, 128), (192, 192), (256, 256), (192, 128), (128, 448)]
LINEAR = [(40, 40), (63, 200), (200, 63), (50, 30), (32, 32), (17, 29)]


def radiograph(height: int, width: int) -> Grey:
    """A synthetic radiograph with noise, so that most levels occur."""
    random = np.random.default_rng([height, width])
    gray, _ = render_radiograph(random, sample_chest(random, True), (), "PA", 256)
    resized = cv2.resize(gray, (width, height)).astype(np.int64) + random.integers(-9, 10, (height, width))
    clipped: Grey = np.clip(resized, 0, 255).astype(np.uint8)
    return clipped


def resized(gray: Grey, size: int) -> NDArray[np.float32]:
    return resize(torch.from_numpy(gray)[None].float(), size)[0].numpy()


@pytest.mark.parametrize("shape", [*WHOLE_RATIOS, *LINEAR])
def test_resizing_gives_the_pixels_of_opencv(shape: tuple[int, int]) -> None:
    gray = radiograph(*shape)
    np.testing.assert_array_equal(resized(gray, 64), resize_area(gray, 64))


@pytest.mark.parametrize("shape", [(160, 160), (100, 100), (65, 131), (501, 397)])
def test_area_averaging_by_other_ratios_differs_by_one_level_in_few_pixels(shape: tuple[int, int]) -> None:
    gray = radiograph(*shape)
    difference = np.abs(resized(gray, 64) - resize_area(gray, 64))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.002


def test_an_image_of_the_size_is_not_changed() -> None:
    every = np.arange(64 * 64).reshape(64, 64).astype(np.uint8)
    np.testing.assert_array_equal(resized(every, 64), every)


@pytest.mark.parametrize(("side", "tiles"), [(64, 8), (96, 8), (100, 8), (33, 4), (64, 16), (50, 7)])
@pytest.mark.parametrize("limit", [0.5, 2.0, 40.0])
def test_equalization_gives_the_pixels_of_opencv(side: int, tiles: int, limit: float) -> None:
    gray = radiograph(side, side)
    found = Clahe(side, tiles, limit)(torch.from_numpy(gray)[None].float())[0].numpy()
    difference = np.abs(found - make_clahe(limit, tiles).apply(gray))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.001


def test_a_batch_is_equalized_image_by_image() -> None:
    images = torch.from_numpy(np.stack([radiograph(64, 64), 255 - radiograph(64, 64)])).float()
    equalize = Clahe(64, 8, 2.0)
    assert torch.equal(equalize(images), torch.cat([equalize(images[:1]), equalize(images[1:])]))


@pytest.mark.parametrize(("shard_size", "enabled"), [(96, True), (None, True), (64, False)])
def test_all_steps_are_those_of_preprocessing(shard_size: int | None, enabled: bool) -> None:
    steps = Preprocessing(
        shard_size=shard_size, image_size=64, clahe=ClaheConfig(enabled=enabled, clip_limit=2.0, tiles=8)
    )
    gray = radiograph(192, 192)
    found = ImageSteps(steps)(torch.from_numpy(gray)[None])[0].numpy()
    np.testing.assert_array_equal(found, steps.apply(gray))
