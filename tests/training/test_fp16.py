"""fp16 with its gradient scaler, which torch has for CPUs too: overflows, clipping, phases and resumed runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from chexvision.training.loop import Training
from chexvision.training.training_session import STATE_FILE
from tests.present import all_present
from tests.training.runs import assert_same_when_cut, tiny_training, true_from

ONE_EPOCH = "training.phases=[{epochs: 1, lr: 1e-3, min_lr: 1e-5, warmup_epochs: 0, freeze: none}]"


def fp16_training(shards: Path, work: Path, *overrides: str, scaler: dict[str, float], **more: object) -> Training:
    """A training in fp16 on the CPU, where accelerate does not create a scaler."""
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=True, mixed_precision="fp16")
    accelerator.native_amp = True
    accelerator.scaler = torch.amp.GradScaler("cpu", **scaler)  # type: ignore[arg-type]
    return tiny_training(shards, work, *overrides, accelerator=accelerator, **more)  # type: ignore[arg-type]


def adam_steps(work: Path) -> set[int]:
    saved = torch.load(work / STATE_FILE, weights_only=True)
    return {int(of["step"]) for of in saved["optimizer"]["state"].values()}


def test_overflowing_steps_change_no_weights_but_advance_schedule_and_average(
    synthetic_shards: Path, tmp_path: Path
) -> None:
    training = fp16_training(synthetic_shards, tmp_path, ONE_EPOCH, scaler={"init_scale": 2.0**60})
    before = {name: value.clone() for name, value in training.model.named_parameters()}
    assert training.run()
    (record,) = training.history
    assert record.loss_scale == 2.0 ** (60 - training.steps)  # halved at every step
    assert adam_steps(tmp_path) == {0}
    assert record.grad_norm == 0
    assert record.lr_last == pytest.approx(1e-5)
    assert training.ema is not None and training.ema.steps == training.steps
    for network in (training.model, training.ema.module):
        for name, value in network.named_parameters():
            assert torch.equal(value, before[name]), name


def test_an_overflow_skips_exactly_one_step(synthetic_shards: Path, tmp_path: Path) -> None:
    scaler = {"init_scale": 2.0**60, "backoff_factor": 2.0**-55}
    training = fp16_training(synthetic_shards, tmp_path, ONE_EPOCH, scaler=scaler)
    before = {name: value.clone() for name, value in training.model.named_parameters()}
    assert training.run()
    assert training.history[0].loss_scale == 2.0**5
    assert adam_steps(tmp_path) == {training.steps - 1}
    assert training.history[0].grad_norm > 0
    assert all(not torch.equal(value, before[name]) for name, value in training.model.named_parameters())


def test_gradients_are_unscaled_once_before_they_are_clipped_in_every_phase(
    synthetic_shards: Path, tmp_path: Path
) -> None:
    exact = tiny_training(synthetic_shards, tmp_path / "fp32", "optim.clip_norm=0.05")
    exact.run()
    scaled = fp16_training(
        synthetic_shards,
        tmp_path / "fp16",
        "optim.clip_norm=0.05",
        scaler={"init_scale": 1024.0, "growth_interval": 999},
    )
    scaled.run()
    for one, other in zip(exact.history, scaled.history, strict=True):
        assert one.grad_norm > 0.05  # so that all are clipped
        assert other.grad_norm == pytest.approx(one.grad_norm, rel=0.02)
        assert other.train_loss == pytest.approx(one.train_loss, rel=0.01)
        assert (one.loss_scale, other.loss_scale) == (None, 1024.0)


def test_a_resumed_run_restores_the_scaler(synthetic_shards: Path, tmp_path: Path) -> None:
    scaler = {"init_scale": 2.0**8, "growth_interval": 4}
    uninterrupted = fp16_training(synthetic_shards, tmp_path / "uninterrupted", scaler=scaler)
    assert uninterrupted.run()
    grown = all_present(record.loss_scale for record in uninterrupted.history)
    assert grown == sorted(set(grown)) and grown[-1] > 2.0**8
    assert_same_when_cut(
        lambda: fp16_training(synthetic_shards, tmp_path / "cut", scaler=scaler, should_stop=true_from(4)),
        uninterrupted,
    )
