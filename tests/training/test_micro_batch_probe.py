from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from chexvision.data.augment import augment
from chexvision.errors import ChexError
from chexvision.training import loop, optimization_steps
from chexvision.training.loop import Training
from chexvision.training.micro_batch_probe import TrialPass, compiled, fit_micro_batch, note_of_room
from tests.training.runs import tiny_training, true_from


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


GB = 10**9


def test_a_gpu_that_would_take_a_step_in_one_pass_is_told_of() -> None:
    note = note_of_room(4 * GB, 24, 96, 80 * GB)
    assert note is not None
    assert "passes of 24 images take 4.0 of 80 GB" in note and "optim.micro_batch_size=96" in note


@pytest.mark.parametrize(("used", "images", "share"), [(4, 96, 96), (4, 96, 48), (17, 24, 96), (3, 24, 1024)])
def test_nothing_is_told_where_a_pass_is_a_step_or_a_step_would_not_fit(used: int, images: int, share: int) -> None:
    assert note_of_room(used * GB, images, share, 80 * GB) is None


def test_room_is_told_once_of_the_last_phase_in_which_all_layers_learn(
    synthetic_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[int | None] = []

    def fitting(trial: TrialPass, most: int, size: int, accelerator: Accelerator, share: int | None) -> int:
        shares.append(share)
        return size

    monkeypatch.setattr(loop, "fitting_micro_batch", fitting)
    assert not tiny_training(synthetic_shards, tmp_path, should_stop=true_from(10)).run()  # in its third epoch
    assert shares == [None, 24]
    assert tiny_training(synthetic_shards, tmp_path).run()
    assert shares == [None, 24, None]


def test_the_first_pass_of_several_processes_reserves_no_memory_that_it_does_not_need(
    synthetic_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[nn.Module] = []

    def wrap(network: nn.Module, process: object, *, unused: bool, first_pass: Callable[[nn.Module], None]) -> object:
        first_pass(network)
        passed.append(network)
        return network

    monkeypatch.setattr(loop, "wrap_in_ddp", wrap)
    monkeypatch.setattr(TrialPass, "_beyond_the_pass", lambda self: pytest.fail("reserved"))
    training = tiny_training(synthetic_shards, tmp_path, should_stop=lambda: True)
    training.run()
    assert passed == [training.model]


def test_a_model_that_never_fits_is_an_error() -> None:
    _, attempt = memory_for(0)
    with pytest.raises(ChexError, match="not one image fits"):
        fit_micro_batch(attempt, 4, Accelerator(cpu=True))  # type: ignore[arg-type]


def probe_of(training: Training) -> TrialPass:
    return TrialPass(training.model, training.optimization.accumulate, training.recipe, training.process.device)


@pytest.mark.parametrize(
    "message",
    ["CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"],
)
def test_out_of_memory_errors_of_every_library_are_recognized(message: str) -> None:
    def attempt(size: int) -> None:
        if size > 2:
            raise RuntimeError(message)

    assert fit_micro_batch(attempt, 8, Accelerator(cpu=True)) == 2


def test_other_errors_are_not_mistaken_for_out_of_memory() -> None:
    def attempt(size: int) -> None:
        raise RuntimeError("index_copy_(): self and source expected to have the same dtype")

    with pytest.raises(RuntimeError, match="index_copy_"):
        fit_micro_batch(attempt, 4, Accelerator(cpu=True))


def test_augmentation_runs_in_fp32_in_the_probe_and_in_training(
    synthetic_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half precision changes pixels, and blurring in it fails on a GPU."""
    training = tiny_training(synthetic_shards, tmp_path, "training.precision=bf16")
    seen: list[bool] = []

    def watched(*arguments: Any) -> Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return augment(*arguments)

    monkeypatch.setattr(optimization_steps, "augment", watched)
    probe_of(training)(4)
    assert seen == [False]
    training.run()
    assert len(seen) > 1 and not any(seen)


def test_the_probe_does_not_change_the_model(synthetic_shards: Path, tmp_path: Path) -> None:
    training = tiny_training(synthetic_shards, tmp_path)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    probe_of(training)(4)
    assert all(torch.equal(before[name], value) for name, value in training.model.state_dict().items())
    assert all(parameter.grad is None for parameter in training.model.parameters())


def test_a_compiled_network_shares_the_weights_and_gives_the_same_loss(
    synthetic_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Traced and run eagerly: code generation would need a C compiler and half a minute.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    training = tiny_training(synthetic_shards, tmp_path)
    network = compiled(training.model, probe_of(training), 4)
    assert network is not training.model
    assert "torch.compile failed" not in caplog.text
    assert [id(one) for one in network.parameters()] == [id(one) for one in training.model.parameters()]
    images = torch.rand(3, 3, 64, 64)
    training.model.eval()
    for name, logits in training.model(images).items():
        torch.testing.assert_close(network(images)[name], logits)


def test_a_network_that_cannot_be_compiled_is_trained_uncompiled(
    synthetic_shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_training(synthetic_shards, tmp_path).model

    def no_compiler(images: int, network: nn.Module) -> None:
        raise RuntimeError("no C compiler\n\nSet this")

    assert compiled(model, no_compiler, 4) is model
    assert "torch.compile failed (RuntimeError: no C compiler Set this)" in caplog.text
