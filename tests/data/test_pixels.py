"""Pixel values from a file to the network are the same on every path."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchvision

from chexvision.config.data_config import ClaheConfig
from chexvision.data.augment import sample
from chexvision.data.decode import decoded_images
from chexvision.data.rows import read_rows
from chexvision.data.source import find_shards
from chexvision.images.preprocessing import Preprocessing
from chexvision.images.radiograph import PIXEL_MEAN, PIXEL_STD, decode_grey
from chexvision.inference.prepare import prepare
from chexvision.models.classifier import CheXVision
from chexvision.models.normalize import plain
from chexvision.shards.split_rule import SHARDS
from tests.data.test_augment import augmented, only
from tests.training import runs

EQUALIZED = ClaheConfig(enabled=True, clip_limit=3.5, tiles=2)
UNEQUALIZED = EQUALIZED.model_copy(update={"enabled": False})


@pytest.mark.parametrize(("top", "highest"), [(300, 1023), (4095, 4095), (65535, 65535)])
def test_16_bit_files_are_scaled_by_the_range_of_their_bit_depth(top: int, highest: int) -> None:
    """Not by their own maximum: a dark image stays dark."""
    values = np.linspace(0, top, 64 * 64).round().astype(np.uint16).reshape(64, 64)
    encoded = cv2.imencode(".png", values)[1].tobytes()
    expected = np.floor(values * 255.0 / highest + 0.5)
    assert np.array_equal(decode_grey(encoded), expected.astype(np.uint8))


def test_color_images_become_grayscale_by_luminance_without_alpha() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (16, 16, 4), np.uint8)
    blue, green, red = (colours[:, :, i].astype(float) for i in range(3))
    expected = 0.299 * red + 0.587 * green + 0.114 * blue
    for channels in (3, 4):
        decoded = decode_grey(cv2.imencode(".png", colours[:, :, :channels])[1].tobytes())
        assert np.abs(decoded - expected).max() <= 0.51


def test_pixels_are_normalized_with_imagenet_statistics() -> None:
    """Mean and deviation over the three channels that torchvision documents for the pretrained weights."""
    preset = torchvision.models.DenseNet121_Weights.IMAGENET1K_V1.transforms()
    assert pytest.approx(np.mean(preset.mean), abs=5e-4) == PIXEL_MEAN
    assert pytest.approx(np.mean(preset.std), abs=5e-4) == PIXEL_STD
    images = torch.randint(0, 256, (2, 8, 8), dtype=torch.uint8)
    expected = (images.float() / 255 - np.mean(preset.mean)) / np.mean(preset.std)
    for shown in (plain(images), augmented(images, sample(only(), 2, seed=0))):
        torch.testing.assert_close(shown, expected.unsqueeze(1).expand(-1, 3, -1, -1).float(), atol=5e-3, rtol=0)


def equalized_after_resizing(grey: np.ndarray, size: int) -> np.ndarray:
    small = cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.createCLAHE(3.5, (2, 2)).apply(small))


def test_shards_are_equalized_after_resizing(synthetic_shards: Path) -> None:
    source = find_shards(synthetic_shards)
    rows = read_rows(source.shards, SHARDS)["validation"]
    stored = decoded_images(source, rows, Preprocessing(image_size=64, clahe=UNEQUALIZED))
    found = decoded_images(source, rows, Preprocessing(shard_size=64, image_size=32, clahe=EQUALIZED))
    assert len(rows) > 1
    for image, grey in zip(found, stored, strict=True):
        assert np.array_equal(image, equalized_after_resizing(np.asarray(grey), 32))


def test_files_are_equalized_after_resizing(tmp_path: Path) -> None:
    assert runs  # registers the tiny backbone
    grey = np.random.default_rng(0).normal(70, 9, (96, 96)).clip(0, 255).astype(np.uint8)  # steep: it is clipped
    cv2.imwrite(str(tmp_path / "a.png"), grey)
    model = CheXVision(
        backbone="tiny", hidden_features=0, preprocessing=Preprocessing(image_size=32, clahe=EQUALIZED)
    )
    assert np.array_equal(prepare(model, tmp_path / "a.png"), equalized_after_resizing(grey, 32))
    unequalized = CheXVision(
        backbone="tiny", hidden_features=0, preprocessing=Preprocessing(image_size=32, clahe=UNEQUALIZED)
    )
    expected = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA)
    assert np.array_equal(prepare(unequalized, tmp_path / "a.png"), expected)
