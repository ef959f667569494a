"""Batch norm needs two images per pass, even if the last step of an epoch has one image, or a rank has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chexvision.backbones import BACKBONES, BackboneFacts
from chexvision.data.loader import Rank, training_batches
from chexvision.errors import UsageError
from chexvision.models.networks.se_resnet import SEResNet
from chexvision.recipes import load_recipe
from tests.data.test_loader import numbered
from tests.training.runs import tiny_training

CPU = torch.device("cpu")
BACKBONES["small_se_resnet"] = BackboneFacts(builder=f"{__name__}:small_se_resnet")


def small_se_resnet(image_size: int, drop_path: float) -> SEResNet:
    """float[B, 3, 32, 32] to float[B, 64, 1, 1]."""
    return SEResNet(depths=(1, 1, 1, 1), widths=(16, 32, 48, 64))


@settings(max_examples=60)
@given(images=st.integers(1, 40), batch=st.integers(1, 20), micro=st.integers(2, 9), world=st.integers(1, 3))
def test_every_micro_batch_has_at_least_two_images(images: int, batch: int, micro: int, world: int) -> None:
    split = numbered(images)
    counted = np.zeros(images)
    for rank in range(world):
        for part in training_batches(split, batch, micro, 1, 0, Rank(CPU, rank, world)):
            numbers = part.images[:, 0, 0].numpy()
            assert 2 <= len(numbers) <= micro
            assert len(set(numbers.tolist())) == len(numbers) or images == 1  # the filler is another image
            assert int(part.positions.max()) < part.step_size
            np.add.at(counted, numbers, part.weights.numpy())
    assert counted.tolist() == [1] * images


def test_a_last_step_of_one_small_image_trains_an_se_resnet(synthetic_shards: Path, tmp_path: Path) -> None:
    images = len(tiny_training(synthetic_shards, tmp_path / "counted").train_split)
    phase = "training.phases=[{epochs: 1, lr: 1e-3, min_lr: 0, warmup_epochs: 0, freeze: none}]"
    settings = ["model.backbone=small_se_resnet", phase, f"optim.batch_size={images - 1}"]
    training = tiny_training(synthetic_shards, tmp_path / "trained", *settings)
    assert training.steps == 2
    assert training.run()
    assert all(bool(buffer.isfinite().all()) for buffer in training.model.buffers())


def test_micro_batches_of_one_small_image_are_refused_at_the_start() -> None:
    small = ["data.image_size=32", "optim.micro_batch_size=1"]
    with pytest.raises(
        UsageError, match=r"micro_batch_size 1 with data\.image_size 32 .* set optim\.micro_batch"
    ) as e:
        load_recipe("scratch", overrides=small)
    assert "recipe scratch: optim." in str(e.value)
    frozen = "training.phases=[{epochs: 1, lr: 1e-3, min_lr: 0, warmup_epochs: 0, freeze: all}]"
    assert load_recipe("scratch", overrides=[*small, frozen]).optim.micro_batch_size == 1  # norms are frozen
    assert load_recipe("scratch", overrides=small[1:]).optim.micro_batch_size == 1  # maps of 10x10
