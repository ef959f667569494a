from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chexvision.artifact.metrics_file import read_metrics
from chexvision.training.checkpoint import fingerprint, load_state
from chexvision.training.history import read_history
from chexvision.training.training_session import STATE_FILE, TEACHER_FILE
from chexvision.training.validation import validate
from tests.data.mixtures import mixed_data, write_other_shards
from tests.training.runs import AUGMENTED, figures, run_teacher, tiny_training, true_from, weights

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the processes: floating-point sums depend on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run_processes(count: int, shards: Path | None, work: Path, *overrides: str) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    command = [sys.executable, *launcher, "-m", "tests.training.runs", str(shards or "-"), str(work), *overrides]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def saved(work: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(work / STATE_FILE, weights_only=True)
    return state


def test_two_processes_give_the_steps_and_metrics_of_one(synthetic_shards: Path, tmp_path: Path) -> None:
    """With frozen norms and no dropout the two must agree; validation covers each image once.

    In the second phase other parameters have gradients, and the normal/abnormal head does not shape the features.
    """
    phase = "epochs: 1, lr: 1e-2, min_lr: 1e-5, warmup_epochs: 0"
    phases = f"training.phases=[{{{phase}, freeze: all}}, {{{phase}, freeze: partial}}]"
    teacher = run_teacher(synthetic_shards, tmp_path / "teacher")
    settings = [*AUGMENTED, phases, "model.dropout=0", "loss.binary_weight=0", f"loss.teacher={teacher}"]
    assert tiny_training(synthetic_shards, tmp_path / "1", *settings).run()
    run_processes(2, synthetic_shards, tmp_path / "2", *settings)
    targets = [np.load(tmp_path / count / TEACHER_FILE)["probabilities"] for count in ("1", "2")]
    assert np.allclose(targets[0], targets[1], atol=1e-6)
    one, two = (read_history(str(saved(tmp_path / count)["history"])) for count in ("1", "2"))
    assert len(one) == len(two) == 2
    for alone, together in zip(one, two, strict=True):
        assert together.macro_auroc == pytest.approx(alone.macro_auroc, abs=1e-6)
        assert together.validation_loss == pytest.approx(alone.validation_loss, abs=1e-6)
        assert together.train_loss == pytest.approx(alone.train_loss, abs=1e-5)
        assert together.grad_norm == pytest.approx(alone.grad_norm, rel=1e-4)  # Adam would hide a wrong scale
    for name, value in weights(tmp_path / "1").items():
        assert torch.allclose(value, weights(tmp_path / "2")[name], atol=1e-5), name


def test_two_processes_train_with_norms_and_dropout(synthetic_shards: Path, tmp_path: Path) -> None:
    run_processes(2, synthetic_shards, tmp_path)
    state = saved(tmp_path)
    history = read_history(str(state["history"]))
    assert [record.epoch for record in history] == [1, 2, 3]
    # Each rank tracks its own norm statistics; both must validate the saved weights.
    alone = tiny_training(synthetic_shards, tmp_path / "alone")
    assert alone.ema is not None
    alone.model.load_state_dict(state["model"])
    alone.ema.load_state_dict(state["ema"])
    for network, auroc in (
        (alone.model, history[-1].trained_macro_auroc),
        (alone.ema.module, history[-1].averaged_macro_auroc),
    ):
        again = validate(network, alone.validation_split, alone.accelerator, 8, alone.loss)
        assert again.metrics.macro_auroc == pytest.approx(auroc, abs=1e-3)


def test_a_run_on_a_mixture_that_one_process_began_is_continued_by_two(
    synthetic_shards: Path, tmp_path: Path
) -> None:
    """The second phase and most of the first are of two processes; steps and figures are those of one."""
    other = write_other_shards(tmp_path / "other")
    phase = "epochs: 1, lr: 1e-2, min_lr: 1e-5, warmup_epochs: 0"
    settings = [
        *mixed_data(synthetic_shards, other),
        *("data.temperature=3", "data.datasets.1.weight=2", "data.mirror=true", "model.dropout=0"),
        *("data.max_train_images=40", "data.max_validation_images=20", "optim.batch_size=12"),
        f"training.phases=[{{{phase}, freeze: all}}, {{{phase}, freeze: partial}}]",
    ]
    one = tiny_training(None, tmp_path / "1", *settings)
    assert one.run()
    assert not tiny_training(None, tmp_path / "2", *settings, should_stop=true_from(3)).run()
    assert saved(tmp_path / "2")["step"] == 3
    run_processes(2, None, tmp_path / "2", *settings)
    two = read_history(str(saved(tmp_path / "2")["history"]))
    assert len(one.history) == len(two) == 2
    for alone, together in zip(one.history, two, strict=True):
        assert together.train_loss == pytest.approx(alone.train_loss, abs=1e-5)
        assert together.grad_norm == pytest.approx(alone.grad_norm, rel=1e-4)
        assert alone.mixture is not None and together.mixture is not None
        for name, of in together.mixture.datasets.items():
            assert of.auroc == pytest.approx(alone.mixture.datasets[name].auroc, abs=1e-6)
    for name, value in weights(tmp_path / "1").items():
        assert torch.allclose(value, weights(tmp_path / "2")[name], atol=1e-5), name


def test_a_process_killed_mid_epoch_loses_only_that_epoch(synthetic_shards: Path, tmp_path: Path) -> None:
    uninterrupted = tiny_training(synthetic_shards, tmp_path / "uninterrupted")
    assert uninterrupted.run()
    work = tmp_path / "killed"
    command = [sys.executable, "-m", "tests.training.runs", str(synthetic_shards), str(work)]
    in_the_second_epoch = {"KILLED_AT": "7"}  # it has five steps an epoch
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **in_the_second_epoch}, check=False, timeout=300)
    assert done.returncode == -signal.SIGKILL
    resumed = tiny_training(synthetic_shards, work)
    saved_state = load_state(
        work / STATE_FILE, fingerprint(resumed.recipe, resumed.train_split, resumed.validation_split)
    )
    assert saved_state is not None and saved_state.epoch == 1
    assert resumed.run()
    assert figures(resumed.history) == figures(uninterrupted.history)
    first, second = weights(work), weights(tmp_path / "uninterrupted")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_train_in_two_processes_writes_one_complete_artifact(synthetic_shards: Path, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    epoch = "training.phases=[{epochs: 1, lr: 1e-3, min_lr: 1e-5, warmup_epochs: 0.5, freeze: none}]"
    quick = ["data.image_size=32", "data.max_train_images=40", epoch]
    settings = [word for setting in quick for word in ("--set", setting)]
    command = [*launcher, "-m", "chexvision", "train", "--model", "densenet", "--preset", "smoke", *settings]
    command += ["--data", str(synthetic_shards), "--work", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    run = json.loads((tmp_path / "artifact" / "run.json").read_text())
    assert run["hardware"]["processes"] == 2
    assert set(read_metrics(tmp_path / "artifact" / "metrics.json").splits) == {"validation", "test"}


def test_two_processes_train_past_layers_that_the_pooling_does_not_use(
    synthetic_shards: Path, tmp_path: Path
) -> None:
    one = "training.phases=[{epochs: 1, lr: 1e-3, min_lr: 1e-5, warmup_epochs: 0, freeze: none}]"
    run_processes(2, synthetic_shards, tmp_path, "model.backbone=dsan_cnn", "model.pooling=attention", one)
    assert len(read_history(str(saved(tmp_path)["history"]))) == 1
