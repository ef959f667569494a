"""The torch engine against prediction through an accelerator, as `evaluate` predicts files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from chexvision.artifact.load import Ensemble
from chexvision.config.test_time import Tta
from chexvision.errors import ChexError, UsageError
from chexvision.images.preprocessing import Preprocessing
from chexvision.images.radiograph import Grey
from chexvision.inference.device import choose_computation
from chexvision.inference.predict_members import predict_images
from chexvision.inference.torch_engine import TorchEngine
from chexvision.models.classifier import CheXVision
from chexvision.training.hardware import start_accelerator
from tests.predict.tiny_model import SIDE

assert SIDE  # registers the backbone "tiny"


def member(seed: int, side: int) -> CheXVision:
    torch.manual_seed(seed)
    return CheXVision("tiny", 0, preprocessing=Preprocessing(shard_size=64, image_size=side)).eval()


@pytest.fixture
def images() -> list[Grey]:
    random = np.random.default_rng(0)
    return [random.integers(0, 255, (70 + i, 80), dtype=np.uint8) for i in range(5)]


@pytest.mark.parametrize("tta", ["none", "flip", "ten-crop"])
@pytest.mark.parametrize("count", [1, 2])
def test_an_engine_gives_the_bits_that_evaluate_gives(
    images: list[Grey], tmp_path: Path, tta: Tta, count: int
) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        cv2.imwrite(str(path), image)
    weights = (1.0,) if count == 1 else (0.3, 0.7)
    ensemble = Ensemble((member(0, 32), member(1, 48))[:count], weights)
    expected = predict_images(ensemble, paths, start_accelerator("fp32"), len(paths), tta=tta)
    engine = TorchEngine(ensemble, "cpu", tta=tta)
    found = engine.run([engine.prepare(image) for image in images])
    assert found.checks is None
    np.testing.assert_array_equal(found.probabilities, expected)
    assert found.probabilities.dtype == np.float64


def test_a_single_model_and_an_ensemble_of_it_are_the_same(images: list[Grey]) -> None:
    model = member(0, 32)
    alone, wrapped = TorchEngine(model, "cpu"), TorchEngine(Ensemble((model,)), "cpu")
    batch = [alone.prepare(image) for image in images]
    np.testing.assert_array_equal(alone.run(batch).probabilities, wrapped.run(batch).probabilities)
    assert alone.name == "torch on cpu, fp32"


def test_half_precision_differs_little(images: list[Grey]) -> None:
    model = member(0, 32)
    full, half = TorchEngine(model, "cpu"), TorchEngine(model, "cpu", "bf16")
    batch = [full.prepare(image) for image in images]
    difference = np.abs(full.run(batch).probabilities - half.run(batch).probabilities)
    assert 0 < difference.max() < 0.02


def test_damaged_weights_are_an_error(images: list[Grey]) -> None:
    model = member(0, 32)
    with torch.no_grad():
        model.binary_head.weight.fill_(float("nan"))
    engine = TorchEngine(model, "cpu")
    with pytest.raises(ChexError, match="not a number"):
        engine.run([engine.prepare(images[0])])


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert str(choose_computation("auto", "fp32")) == "torch on cpu, fp32"
    for device in ("cuda", "mps"):
        with pytest.raises(UsageError, match=f"no device '{device}' that torch can use; choose auto or cpu"):
            choose_computation(device)
