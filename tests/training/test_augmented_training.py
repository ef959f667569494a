"""Crops, RandAugment, mixing, mirrored images and smaller images of a phase in the real loop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from chexvision.backbones import BACKBONES, BackboneFacts
from chexvision.errors import UsageError
from chexvision.recipes import load_recipe
from chexvision.training.loop import Training
from tests.small_backbones import Chain, tiny_backbone
from tests.training.runs import AUGMENTED, TINY, assert_same_when_cut, tiny_training, true_from, weights

# Norms see micro-batches, so they are frozen where divisions are compared; dropout is off.
FROZEN = [
    "model.dropout=0",
    "training.phases=[{epochs: 1, lr: 1e-2, min_lr: 1e-5, warmup_epochs: 0, freeze: all, image_size: 32},"
    " {epochs: 1, lr: 1e-2, min_lr: 1e-5, warmup_epochs: 0, freeze: all}]",
    "data.image_size=48",
]


def test_a_run_with_everything_on_resumes_at_any_step_to_identical_results(
    synthetic_shards: Path, tmp_path: Path
) -> None:
    sizes = (
        "training.phases=[{epochs: 1, lr: 1e-3, min_lr: 1e-5, warmup_epochs: 0.5, freeze: none, image_size: 32},"
        " {epochs: 1, lr: 1e-3, min_lr: 1e-5, warmup_epochs: 0.5, freeze: none}]"
    )
    settings = [*AUGMENTED, sizes, "data.image_size=48"]
    uninterrupted = tiny_training(synthetic_shards, tmp_path / "uninterrupted", *settings)
    assert uninterrupted.run()
    assert_same_when_cut(
        lambda: tiny_training(synthetic_shards, tmp_path / "cut", *settings, should_stop=true_from(4)), uninterrupted
    )


def test_micro_batches_give_the_steps_of_the_effective_batch(synthetic_shards: Path, tmp_path: Path) -> None:
    made = []
    for micro in (24, 7):
        settings = [*AUGMENTED, *FROZEN, f"optim.micro_batch_size={micro}"]
        made.append(tiny_training(synthetic_shards, tmp_path / str(micro), *settings))
        assert made[-1].run()
    for first, second in zip(*(training.history for training in made), strict=True):
        assert first.train_loss == pytest.approx(second.train_loss, rel=1e-5)
        assert first.grad_norm == pytest.approx(second.grad_norm, rel=1e-4)
        assert first.validation_loss == pytest.approx(second.validation_loss, rel=1e-5)
    for name, value in weights(tmp_path / "24").items():
        assert torch.allclose(value, weights(tmp_path / "7")[name], atol=2e-5), name


def test_the_network_sees_the_size_of_the_phase_and_validation_that_of_the_data(
    synthetic_shards: Path, tmp_path: Path
) -> None:
    training = tiny_training(synthetic_shards, tmp_path, *FROZEN)
    seen: dict[bool, list[int]] = {True: [], False: []}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[training.model.training].append(inputs[0].shape[-1])

    training.model.backbone.register_forward_pre_hook(note)
    assert training.run()
    steps = len(seen[True]) // 2
    assert seen[True] == [32] * steps + [48] * steps
    assert set(seen[False]) == {48}


def test_an_epoch_of_mirrored_images_is_one_of_the_images_and_one_of_the_flipped(
    synthetic_shards: Path, tmp_path: Path
) -> None:
    """With fixed weights the loss is the mean of both."""
    still = [f"augment.{key}=0" for key in ("rotate_degrees", "translate", "shear_degrees", "scale")]
    still += [f"augment.{key}=0" for key in ("brightness", "contrast", "blur", "erase")] + ["model.dropout=0"]
    still += ["training.phases=[{epochs: 1, lr: 1e-30, min_lr: 0, warmup_epochs: 0, freeze: all}]"]
    made: list[Training] = []
    for hflip, mirror in ((0, False), (1, False), (0, True)):
        settings = [f"augment.hflip={hflip}", f"data.mirror={str(mirror).lower()}"]
        made.append(tiny_training(synthetic_shards, tmp_path / str(len(made)), *still, *settings))
        assert made[-1].run()
    once, flipped, both = made
    images = len(once.train_split)
    assert (once.steps, both.steps) == (-(-images // 24), -(-2 * images // 24))
    assert torch.equal(once.loss.positive_weights, both.loss.positive_weights)
    losses = [training.history[0].train_loss for training in made]
    assert losses[0] != losses[1]
    assert losses[2] == pytest.approx((losses[0] + losses[1]) / 2, rel=1e-5)
    assert flipped.steps == once.steps


def test_pixels_are_normalized_with_the_models_own_mean(synthetic_shards: Path, tmp_path: Path) -> None:
    training = tiny_training(synthetic_shards, tmp_path, "augment.erase=1.0")
    other = training.model.preprocessing.model_copy(update={"mean": 0.25, "std": 0.5})
    training.model.preprocessing = other
    seen: list[Tensor] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module.training:
            seen.append(inputs[0])

    training.model.backbone.register_forward_pre_hook(note)
    assert training.run()
    values = torch.cat([batch.flatten() for batch in seen])
    assert float(values.min()) == pytest.approx((0 - 0.25) / 0.5) and float(values.max()) <= (1 - 0.25) / 0.5
    assert (values == 0).float().mean() > 0.01  # erased with the mean


class OnlyOf(nn.Module):
    """Passes images of one size."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[-1] != self.size:
            raise AssertionError(f"input of {images.shape[-1]} pixels")
        return images


def of_one_size(image_size: int, drop_path: float) -> Chain:
    return Chain(OnlyOf(image_size), *tiny_backbone(image_size, drop_path).children(), channels=16)


def test_a_phase_with_images_that_the_network_does_not_take_is_refused_at_the_start(
    synthetic_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKBONES, "of_one_size", BackboneFacts(builder=f"{__name__}:of_one_size"))
    with pytest.raises(UsageError) as error:
        tiny_training(synthetic_shards, tmp_path, *FROZEN, "model.backbone=of_one_size")
    assert str(error.value) == (
        "training.phases.0.image_size 32: of_one_size takes no images of this size when it is built for "
        "data.image_size 48 (input of 32 pixels); leave it out, or set another one"
    )
    known = BackboneFacts(builder=f"{__name__}:of_one_size", one_size=True)
    monkeypatch.setitem(BACKBONES, "of_one_size", known)  # where the table knows, without building the network
    with pytest.raises(UsageError, match=r"training\.phases\.0\.image_size: of_one_size takes images of one size"):
        load_recipe("scratch", overrides=[*TINY, *FROZEN, "model.backbone=of_one_size"])
