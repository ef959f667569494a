from __future__ import annotations

import subprocess
import sys
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


def test_a_killed_node_changes_neither_history_nor_weights(
    two_nodes: TwoNodes, synthetic_shards: Path, tmp_path: Path
) -> None:
    """Compared with an uncut run of two processes that torchrun starts, each with a folder of its own."""
    printed = run_on_two_machines(tmp_path, *command(synthetic_shards, "--work", str(tmp_path / "uncut{node}")))
    assert "artifact: " in printed[0] and not printed[1]
    assert not (tmp_path / "uncut1").exists()

    work = tmp_path / "work"
    words = command(synthetic_shards, "--work", str(work), "--on", "ray", "--workers", "2", "--save-minutes", "0")
    driver = subprocess.Popen(
        [sys.executable, "-m", *words, "--address", two_nodes.address],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def trained(epochs: int) -> bool:
        assert driver.poll() is None, driver.communicate()
        progress = read_progress(work)
        return progress is not None and progress.epoch >= epochs

    wait_until(lambda: trained(2), 200)
    two_nodes.kill()
    two_nodes.join()
    out, errors = driver.communicate(timeout=300)
    assert driver.returncode == 0, errors
    assert "a worker was lost" in errors and "Traceback" not in errors
    assert out.count("epoch 1/8") == 1 and out.count("epoch 8/8") == 1

    cut, uncut = work / "artifact", tmp_path / "uncut0" / "artifact"
    histories = [read_history((folder / "history.json").read_bytes()) for folder in (cut, uncut)]
    assert figures(histories[0]) == figures(histories[1])
    first, second = (load_file(folder / "model.safetensors") for folder in (cut, uncut))
    assert all(torch.equal(first[name], second[name]) for name in first)
