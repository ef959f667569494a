from __future__ import annotations

from pathlib import Path

import pytest
import torch

from chexvision.training.history import read_history
from chexvision.training.training_session import STATE_FILE
from tests.cluster.agents import run_on_two_machines
from tests.training.runs import tiny_training, true_from, weights

# One process and several agree to rounding errors where no norm depends on the micro-batch and nothing is dropped.
SAME = [
    "model.dropout=0",
    "training.phases=[{epochs: 2, lr: 1e-2, min_lr: 1e-5, warmup_epochs: 0, freeze: partial}]",
]


def test_two_machines_continue_from_the_folder_of_the_first(synthetic_shards: Path, tmp_path: Path) -> None:
    """Each has a folder of its own; the one of the second process is empty, and stays so."""
    alone = tiny_training(synthetic_shards, tmp_path / "alone", *SAME)
    assert alone.run()
    assert not tiny_training(synthetic_shards, tmp_path / "node0", *SAME, should_stop=true_from(2)).run()
    run_on_two_machines(tmp_path, "tests.training.runs", str(synthetic_shards), str(tmp_path / "node{node}"), *SAME)
    assert not (tmp_path / "node1").exists()
    state = torch.load(tmp_path / "node0" / STATE_FILE, weights_only=True)
    history = read_history(state["history"])
    assert len(history) == len(alone.history) == 2
    for together, one in zip(history, alone.history, strict=True):
        assert together.macro_auroc == pytest.approx(one.macro_auroc, abs=1e-6)
        assert together.validation_loss == pytest.approx(one.validation_loss, abs=1e-6)
        assert together.train_loss == pytest.approx(one.train_loss, abs=1e-5)
        assert together.grad_norm == pytest.approx(one.grad_norm, rel=1e-4)  # Adam would hide a wrong scale
    found, expected = weights(tmp_path / "node0"), weights(tmp_path / "alone")
    assert all(torch.allclose(found[name], expected[name], atol=1e-5) for name in expected)
