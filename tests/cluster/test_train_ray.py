from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file

from chexvision.runs.run_progress import read_progress
from chexvision.training.history import read_history
from tests.cluster.agents import ROOT, run_on_two_machines
from tests.cluster.conftest import TwoNodes, wait_until
from tests.training.runs import TINY, figures

# Steps enough that the state is saved within an epoch, where processes agree on it; and norms, and dropout.
_SETTINGS = [
    *TINY,
    "optim.batch_size=8",
    "training.phases=[{epochs: 8, lr: 1e-3, min_lr: 1e-5, warmup_epochs: 0, freeze: none}]",
    "training.patience=8",
]


def command(shards: Path, *words: str, settings: list[str] = _SETTINGS) -> list[str]:
    changes = [word for setting in settings for word in ("--set", setting)]
    return ["tests.cluster.ray_command", "train", "--model", "scratch", *changes, "--data", str(shards), *words]


@contextmanager
def started(nodes: TwoNodes, words: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command with a worker on each node; what it prints goes to the files `out` and `errors`."""
    cluster = ["--on", "ray", "--workers", "2", "--address", nodes.address]
    with (folder / "out").open("wb") as out, (folder / "errors").open("wb") as errors:
        driver = subprocess.Popen([sys.executable, "-m", *words, *cluster], cwd=ROOT, stdout=out, stderr=errors)
    try:
        yield driver
    finally:
        driver.kill()
        driver.wait()


def test_a_killed_node_changes_neither_history_nor_weights(
    two_nodes: TwoNodes, synthetic_shards: Path, tmp_path: Path
) -> None:
    """Compared with an uncut run of two processes that torchrun starts, each with a folder of its own."""
    printed = run_on_two_machines(tmp_path, *command(synthetic_shards, "--work", str(tmp_path / "uncut{node}")))
    assert "artifact: " in printed[0] and not printed[1]
    assert not (tmp_path / "uncut1").exists()

    work, words = tmp_path / "work", ["--storage", str(tmp_path / "storage"), "--save-minutes", "0"]
    with started(two_nodes, command(synthetic_shards, "--work", str(work), *words), tmp_path) as driver:
        wait_until(lambda: "epoch 2/8" in (tmp_path / "out").read_text() or driver.poll() is not None, 300)
        assert not read_progress(work)  # nothing is here until the end
        two_nodes.kill()
        two_nodes.join()
        assert driver.wait(timeout=300) == 0, (tmp_path / "errors").read_text()
    out, errors = (tmp_path / "out").read_text(), (tmp_path / "errors").read_text()
    assert errors.startswith("a worker was lost (") and errors.count("\n") == 1
    assert all(out.count(f"epoch {number}/8") == 1 for number in (1, 8))
    assert f"artifact: {work / 'artifact'}" in out

    cut, uncut = work / "artifact", tmp_path / "uncut0" / "artifact"
    histories = [read_history((folder / "history.json").read_bytes()) for folder in (cut, uncut)]
    assert figures(histories[0]) == figures(histories[1])
    first, second = (load_file(folder / "model.safetensors") for folder in (cut, uncut))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_ctrl_c_saves_the_state_in_a_shared_folder_and_ends(
    two_nodes: TwoNodes, synthetic_shards: Path, tmp_path: Path
) -> None:
    many = [*_SETTINGS, "training.patience=500", "training.phases.0.epochs=500"]
    work = tmp_path / "work"
    with started(two_nodes, command(synthetic_shards, "--work", str(work), settings=many), tmp_path) as driver:
        wait_until(lambda: "epoch 1/500" in (tmp_path / "out").read_text() or driver.poll() is not None, 300)
        driver.send_signal(signal.SIGINT)
        assert driver.wait(timeout=120) == 0, (tmp_path / "errors").read_text()
    assert "paused after epoch" in (tmp_path / "out").read_text()
    assert (tmp_path / "errors").read_text().startswith("ending at the next step, with the state saved")
    progress = read_progress(work)
    assert progress is not None and progress.status == "paused" and progress.note == "it received SIGINT"
    state = torch.load(work / "state.pt", weights_only=True)
    assert state["epoch"] >= 1 and not (work / ".shared-by-nodes").exists()
