from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from chexvision.artifact.metrics_file import read_metrics
from chexvision.provenance import Provenance
from chexvision.recipes import load_recipe
from chexvision.training.history import read_history
from chexvision.training.training_session import STATE_FILE, TrainingJob
from tests.cluster.agents import run_on_two_machines
from tests.cluster.tiny_job import run_tiny_job
from tests.training.runs import TINY

# One process and several agree to rounding errors where no norm depends on the micro-batch and nothing is dropped.
_SETTINGS = [
    *TINY,
    "data.placement=nodes",
    "data.mirror=true",
    "model.dropout=0",
    "training.phases=[{epochs: 2, lr: 1e-2, min_lr: 1e-5, warmup_epochs: 0, freeze: partial}]",
]


def test_two_machines_with_half_of_the_images_each_continue_as_one_process_does(
    synthetic_shards: Path, tmp_path: Path
) -> None:
    """From the folder of the first; the second one's does not exist, and is not made."""
    recipe = load_recipe("scratch", overrides=_SETTINGS)
    job = TrainingJob(recipe, synthetic_shards, tmp_path / "alone", Provenance.here("tiny"))
    alone = run_tiny_job(job)
    assert not run_tiny_job(replace(job, work=tmp_path / "node0", max_hours=1e-9)).finished
    assert torch.load(tmp_path / "node0" / STATE_FILE, weights_only=True)["step"] == 1

    changes = [word for setting in _SETTINGS for word in ("--set", setting)]
    words = ["train", "--model", "scratch", *changes, "--data", str(synthetic_shards)]
    run_on_two_machines(tmp_path, "tests.cluster.ray_command", *words, "--work", str(tmp_path / "node{node}"))
    assert not (tmp_path / "node1").exists()

    assert alone.artifact is not None and alone.metrics is not None
    artifact = tmp_path / "node0" / "artifact"
    one, two = (read_history((folder / "history.json").read_bytes()) for folder in (alone.artifact, artifact))
    assert len(one) == len(two) == 2
    for first, second in zip(one, two, strict=True):
        assert second.macro_auroc == pytest.approx(first.macro_auroc, abs=1e-6)
        assert second.validation_loss == pytest.approx(first.validation_loss, abs=1e-6)
        assert second.train_loss == pytest.approx(first.train_loss, abs=1e-5)
        assert second.grad_norm == pytest.approx(first.grad_norm, rel=1e-4)  # Adam would hide a wrong scale
    found, expected = (load_file(folder / "model.safetensors") for folder in (artifact, alone.artifact))
    assert all(torch.allclose(found[name], expected[name], atol=1e-5) for name in expected)
    measured = read_metrics(artifact / "metrics.json")
    assert measured.splits["test"].macro_auroc == pytest.approx(alone.metrics.splits["test"].macro_auroc, abs=1e-6)
    assert measured.dataset_identity == alone.metrics.dataset_identity

    assert measured.division is not None
    images = {split: part.images for split, part in measured.division.parts.items()}
    expected_here = sorted([images["train"] // 2, images["validation"], images["test"]])
    for node in (0, 1):
        arrays = (tmp_path / f"cache{node}" / "decoded").glob("*/images.npy")
        here = sorted(len(np.load(path, mmap_mode="r")) for path in arrays)
        assert here == pytest.approx(expected_here, abs=1)
