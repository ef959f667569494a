from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from chexvision.errors import ChexError
from chexvision.training.warm_up import TrialPass, compiled, fit_micro_batch
from tests.training.runs import tiny_training


def memory_for(images: int) -> tuple[list[int], object]:
    tried: list[int] = []

    def attempt(size: int) -> None:
        tried.append(size)
        if size > images:
            raise torch.OutOfMemoryError("CUDA out of memory")

    return tried, attempt


def test_running_out_of_memory_halves_the_micro_batch_until_it_fits(caplog: pytest.LogCaptureFixture) -> None:
    tried, attempt = memory_for(7)
    assert fit_micro_batch(attempt, 24, Accelerator(cpu=True)) == 6  # type: ignore[arg-type]
    assert tried == [24, 12, 6]
    assert "out of memory with micro-batches of 24: now 12" in caplog.text


def test_what_does_not_fit_at_all_says_so() -> None:
    _, attempt = memory_for(0)
    with pytest.raises(ChexError, match="not one image fits"):
        fit_micro_batch(attempt, 4, Accelerator(cpu=True))  # type: ignore[arg-type]


def test_a_trial_leaves_the_model_as_it_was(drawn_shards: Path, tmp_path: Path) -> None:
    training = tiny_training(drawn_shards, tmp_path)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    TrialPass(training.model, training.loss, training.recipe, training.accelerator)(4)
    assert all(torch.equal(before[name], value) for name, value in training.model.state_dict().items())
    assert all(parameter.grad is None for parameter in training.model.parameters())


def test_a_compiled_network_shares_the_weights_and_gives_the_same_loss(
    drawn_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Traced and run by torch itself: generating code would need a C compiler, and half a minute.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    training = tiny_training(drawn_shards, tmp_path)
    trial = TrialPass(training.model, training.loss, training.recipe, training.accelerator)
    network = compiled(training.model, trial)
    assert network is not training.model
    assert "torch.compile failed" not in caplog.text
    assert [id(one) for one in network.parameters()] == [id(one) for one in training.model.parameters()]
    images = torch.rand(3, 3, 64, 64)
    training.model.eval()
    for name, logits in training.model(images).items():
        torch.testing.assert_close(network(images)[name], logits)


def test_a_network_that_cannot_be_compiled_is_trained_as_it_is(
    drawn_shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_training(drawn_shards, tmp_path).model

    def no_compiler(images: int, network: nn.Module) -> None:
        raise RuntimeError("no C compiler")

    assert compiled(model, no_compiler) is model
    assert "torch.compile failed (RuntimeError: no C compiler)" in caplog.text
