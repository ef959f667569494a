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
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from chexvision.artifact.metrics_file import read_metrics
from chexvision.data.loader import Rank
from chexvision.training.checkpoint import fingerprint, load_state
from chexvision.training.history import read_history
from chexvision.training.processes import wrap_in_ddp
from chexvision.training.training_session import STATE_FILE, TEACHER_FILE
from chexvision.training.validation import validate
from tests.data.mixtures import mixed_data, write_other_shards
from tests.training.runs import AUGMENTED, TINY, figures, run_teacher, tiny_training, true_from, weights

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the processes: floating-point sums depend on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


PHASE = "epochs: 1, lr: 1e-2, min_lr: 1e-5, warmup_epochs: 0"
# No dropout, and a second phase in which other parameters have gradients.
STEADY = [
    *AUGMENTED,
    f"training.phases=[{{{PHASE}, freeze: all}}, {{{PHASE}, freeze: partial}}]",
    "model.dropout=0",
    "loss.binary_weight=0",
]
MIXTURE = [
    *("data.temperature=3", "data.datasets.1.weight=2", "data.mirror=true", "model.dropout=0"),
    *("data.max_train_images=40", "data.max_validation_images=20", "optim.batch_size=12"),
    f"training.phases=[{{{PHASE}, freeze: all}}, {{{PHASE}, freeze: partial}}]",
]


@pytest.fixture(scope="module")
def pair(synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what two processes trained, one training after another, and what they had. Read only."""
    folder = tmp_path_factory.mktemp("pair")
    teacher = run_teacher(synthetic_shards, folder / "teacher")
    one = "training.phases=[{epochs: 1, lr: 1e-3, min_lr: 1e-5, warmup_epochs: 0, freeze: none}]"
    mixed = [*mixed_data(synthetic_shards, write_other_shards(folder / "other")), *MIXTURE]
    assert not tiny_training(None, folder / "mixture", *mixed, should_stop=true_from(3)).run()
    assert saved(folder / "mixture")["step"] == 3
    shards = str(synthetic_shards)
    runs = [
        [shards, str(folder / "steady"), *STEADY, f"loss.teacher={teacher}"],
        [shards, str(folder / "norms")],
        [shards, str(folder / "attention"), "model.backbone=dsan_cnn", "model.pooling=attention", one],
        [None, str(folder / "mixture"), *mixed],
    ]
    launch("tests.training.runs", json.dumps(runs))
    return folder


def launch(*words: str) -> None:
    """Run a module in two processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    done = subprocess.run([*launcher, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def saved(work: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(work / STATE_FILE, weights_only=True)
    return state


def test_two_processes_give_the_steps_and_metrics_of_one(synthetic_shards: Path, pair: Path, tmp_path: Path) -> None:
    """With frozen norms and no dropout the two must agree; validation covers each image once.

    In the second phase other parameters have gradients, and the normal/abnormal head does not shape the features.
    """
    works = (tmp_path, pair / "steady")
    assert tiny_training(synthetic_shards, tmp_path, *STEADY, f"loss.teacher={pair / 'teacher'}").run()
    targets = [np.load(work / TEACHER_FILE)["probabilities"] for work in works]
    assert np.allclose(targets[0], targets[1], atol=1e-6)
    one, two = (read_history(str(saved(work)["history"])) for work in works)
    assert len(one) == len(two) == 2
    for alone, together in zip(one, two, strict=True):
        assert together.macro_auroc == pytest.approx(alone.macro_auroc, abs=1e-6)
        assert together.validation_loss == pytest.approx(alone.validation_loss, abs=1e-6)
        assert together.train_loss == pytest.approx(alone.train_loss, abs=1e-5)
        assert together.grad_norm == pytest.approx(alone.grad_norm, rel=1e-4)  # Adam would hide a wrong scale
    for name, value in weights(tmp_path).items():
        assert torch.allclose(value, weights(pair / "steady")[name], atol=1e-5), name


def test_two_processes_train_with_norms_and_dropout(synthetic_shards: Path, pair: Path, tmp_path: Path) -> None:
    state = saved(pair / "norms")
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
    synthetic_shards: Path, pair: Path, tmp_path: Path
) -> None:
    """The second phase and most of the first are of two processes; steps and figures are those of one."""
    one = tiny_training(None, tmp_path, *mixed_data(synthetic_shards, pair / "other"), *MIXTURE)
    assert one.run()
    two = read_history(str(saved(pair / "mixture")["history"]))
    assert len(one.history) == len(two) == 2
    for alone, together in zip(one.history, two, strict=True):
        assert together.train_loss == pytest.approx(alone.train_loss, abs=1e-5)
        assert together.grad_norm == pytest.approx(alone.grad_norm, rel=1e-4)
        assert alone.mixture is not None and together.mixture is not None
        for name, of in together.mixture.datasets.items():
            assert of.auroc == pytest.approx(alone.mixture.datasets[name].auroc, abs=1e-6)
    for name, value in weights(tmp_path).items():
        assert torch.allclose(value, weights(pair / "mixture")[name], atol=1e-5), name


def test_a_process_killed_mid_epoch_loses_only_that_epoch(synthetic_shards: Path, tmp_path: Path) -> None:
    uninterrupted = tiny_training(synthetic_shards, tmp_path / "uninterrupted")
    assert uninterrupted.run()
    work = tmp_path / "killed"
    command = [sys.executable, "-m", "tests.training.runs", json.dumps([[str(synthetic_shards), str(work)]])]
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


def test_gradients_are_in_their_final_order_from_the_first_step_on(tmp_path: Path) -> None:
    """In another order, sums over three processes or more are rounded differently."""
    network, passed = torch.nn.Linear(4, 2), torch.zeros((2, 4))

    def first_pass(wrapped: torch.nn.Module) -> None:
        wrapped(passed).sum().backward()

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    try:
        wrapped = wrap_in_ddp(network, Rank(torch.device("cpu"), 0, 2), unused=False, first_pass=first_pass)
        assert isinstance(wrapped, DistributedDataParallel)
        assert wrapped.reducer._rebuild_buckets()  # as the next pass does: True once, after the first one
        assert not wrapped.reducer._rebuild_buckets()
    finally:
        distributed.destroy_process_group()


def test_train_in_two_processes_writes_one_complete_artifact(synthetic_shards: Path, tmp_path: Path) -> None:
    epoch = "training.phases=[{epochs: 1, lr: 1e-3, min_lr: 1e-5, warmup_epochs: 0.5, freeze: none}]"
    settings = [word for setting in (*TINY, epoch) for word in ("--set", setting)]
    words = ["train", "--model", "scratch", *settings, "--data", str(synthetic_shards), "--work", str(tmp_path)]
    launch("tests.cluster.ray_command", *words)
    run = json.loads((tmp_path / "artifact" / "run.json").read_text())
    assert run["hardware"]["processes"] == 2
    assert set(read_metrics(tmp_path / "artifact" / "metrics.json").splits) == {"validation", "test"}


def test_two_processes_train_past_layers_that_the_pooling_does_not_use(pair: Path) -> None:
    assert len(read_history(str(saved(pair / "attention")["history"]))) == 1
