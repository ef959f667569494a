"""Training a mixture on two machines, each of which has half of the training images: by torchrun, and by Ray."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from chexvision.artifact.contents import read_run
from chexvision.artifact.metrics_file import read_metrics
from chexvision.provenance import Provenance
from chexvision.recipes import load_recipe
from chexvision.training.history import read_history
from chexvision.training.training_session import TrainingJob
from tests.cluster.agents import ROOT, run_on_two_machines
from tests.cluster.conftest import TwoNodes, wait_until
from tests.cluster.tiny_job import HOLD, run_tiny_job
from tests.data.mixtures import mixed_data, write_other_shards
from tests.training.runs import TINY, figures

# One process and several agree to rounding errors where no norm depends on the micro-batch and nothing is dropped.
# An epoch has enough steps that the state is saved within it, where processes agree on that.
_SETTINGS = [
    *TINY,
    "data.placement=nodes",
    "data.mirror=true",
    "data.temperature=3",
    "data.split=shards",
    "data.max_train_images=60",
    "model.dropout=0",
    "optim.batch_size=12",
    "training.patience=6",
    "training.phases=[{epochs: 6, lr: 1e-2, min_lr: 1e-5, warmup_epochs: 0, freeze: partial}]",
]


def command(mixture: list[Path], work: Path | str, *words: str) -> list[str]:
    changes = [word for setting in _SETTINGS for word in ("--set", setting)]
    given = [*(word for folder in mixture for word in ("--data", str(folder))), "--work", str(work), *words]
    return ["tests.cluster.ray_command", "train", "--model", "scratch", *changes, *given]


@pytest.fixture(scope="module")
def mixture(synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two data sets that label other findings."""
    return [synthetic_shards, write_other_shards(tmp_path_factory.mktemp("other") / "other")]


@pytest.fixture(scope="module")
def together(mixture: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two machines that torchrun trained on."""
    folder = tmp_path_factory.mktemp("together")
    printed = run_on_two_machines(folder, *command(mixture, folder / "node{node}"))
    assert "artifact: " in printed[0] and not printed[1]
    return folder


def test_two_machines_train_as_one_process_does_and_share_no_folder(
    mixture: list[Path], together: Path, tmp_path: Path
) -> None:
    recipe = load_recipe("scratch", overrides=[*_SETTINGS, *mixed_data(*mixture)])
    alone = run_tiny_job(TrainingJob(recipe, None, tmp_path, Provenance.here("tiny")))
    assert not (together / "node1").exists()
    assert alone.artifact is not None and alone.metrics is not None
    artifact = together / "node0" / "artifact"
    one, two = (read_history((folder / "history.json").read_bytes()) for folder in (alone.artifact, artifact))
    assert len(one) == len(two) == 6
    for first, second in zip(one, two, strict=True):
        assert second.macro_auroc == pytest.approx(first.macro_auroc, abs=1e-6)
        assert second.validation_loss == pytest.approx(first.validation_loss, abs=1e-5)
        assert second.train_loss == pytest.approx(first.train_loss, abs=1e-5)
        assert second.grad_norm == pytest.approx(first.grad_norm, rel=1e-4)  # Adam would hide a wrong scale
        assert first.mixture is not None and second.mixture is not None
        assert list(second.mixture.datasets) == ["shards", "other"]
        for name, of in second.mixture.datasets.items():
            assert of.macro_auroc == pytest.approx(first.mixture.datasets[name].macro_auroc, abs=1e-6)
            assert of.auroc == pytest.approx(first.mixture.datasets[name].auroc, abs=1e-6)
            assert of.images == first.mixture.datasets[name].images
    found, expected = (load_file(folder / "model.safetensors") for folder in (artifact, alone.artifact))
    assert all(torch.allclose(found[name], expected[name], atol=1e-5) for name in expected)
    measured = read_metrics(artifact / "metrics.json")
    assert measured.splits["test"].macro_auroc == pytest.approx(alone.metrics.splits["test"].macro_auroc, abs=1e-6)
    assert measured.dataset_identity == alone.metrics.dataset_identity


def test_each_machine_decodes_half_of_the_training_images_of_each_data_set(together: Path) -> None:
    run = read_run(together / "node0" / "artifact" / "run.json")
    images = [{split: part.images for split, part in one.split.parts.items()} for one in run.datasets]
    assert [one.train_images for one in run.datasets] == [60, 60]
    expected = sorted(number for of in images for number in (30, of["validation"], of["test"]))
    for node in (0, 1):
        arrays = (together / f"cache{node}" / "decoded").glob("*/images.npy")
        assert sorted(len(np.load(path, mmap_mode="r")) for path in arrays) == pytest.approx(expected, abs=1)


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


@pytest.fixture
def hold(ray_environment: Path) -> Iterator[Path]:
    """While this file is there, a run on the cluster waits in its third epoch."""
    path = ray_environment / HOLD
    path.touch()
    yield path
    path.unlink(missing_ok=True)


def test_a_killed_node_changes_neither_history_nor_weights(
    two_nodes: TwoNodes, hold: Path, mixture: list[Path], together: Path, tmp_path: Path
) -> None:
    """Bit for bit those of torchrun's processes. The state reaches the new node through the checkpoint storage."""
    work, out = tmp_path / "work", tmp_path / "out"
    words = command(mixture, work, "--storage", str(tmp_path / "storage"), "--save-minutes", "0")
    with started(two_nodes, words, tmp_path) as driver:
        wait_until(lambda: "epoch 2/6" in out.read_text() or driver.poll() is not None, 300)
        assert not any(work.glob("*.pt"))  # nothing is here until the end
        two_nodes.kill()
        hold.unlink()
        two_nodes.join()
        assert driver.wait(timeout=400) == 0, (tmp_path / "errors").read_text()
    # Either is noticed first: the node, or that it no longer answers the other worker.
    (line,) = (tmp_path / "errors").read_text().splitlines()
    assert line.startswith("a worker ") and line.endswith("; continuing from the saved state")
    printed = out.read_text()
    assert all(printed.count(f"epoch {number}/6") == 1 for number in (1, 6))
    assert f"artifact: {work / 'artifact'}\n" in printed

    cut, uncut = work / "artifact", together / "node0" / "artifact"
    histories = [read_history((folder / "history.json").read_bytes()) for folder in (cut, uncut)]
    assert figures(histories[0]) == figures(histories[1])
    first, second = (load_file(folder / "model.safetensors") for folder in (cut, uncut))
    assert all(torch.equal(first[name], second[name]) for name in first)
