from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from chexvision.bench import tracked_steps, two_processes
from chexvision.bench.alternatives import PngFiles, usual_steps, write_png_files
from chexvision.cli import main
from chexvision.data.dataset import open_split, splits_of
from chexvision.data.source import find_shards
from chexvision.models.classifier import CheXVision
from chexvision.recipes import load_recipe
from chexvision.tracking.tracker import SINKS
from chexvision.training.hardware import start_accelerator
from tests.training import runs


@pytest.fixture(autouse=True)
def _keep_cores() -> object:
    """A benchmark restricts its process to some cores; restore them for the next test."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    yield
    if cores is not None:
        os.sched_setaffinity(0, cores)


def bench(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, dict[str, float]]:
    """The measurements that a benchmark prints as JSON, by alternative."""
    with pytest.raises(SystemExit) as ended:
        main(["bench", *map(str, arguments)])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    report = json.loads(printed.out)
    assert report["machine"]["cores"] >= 1 and report["versions"]["torch"]
    return {row["way"]: row["figures"] for row in report["rows"]}


def test_input_pipelines_are_compared_with_equal_worker_counts(
    synthetic_shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = bench(capsys, "input", "--data", synthetic_shards, "--size", 64, "--batch", 16, "--workers", 1)
    ours, theirs = figures["decoded once"], figures["decoded at each access"]
    better = figures["times better"]
    assert better["supply, images/s"] == pytest.approx(ours["supply, images/s"] / theirs["supply, images/s"])
    assert better["first batch, s"] == pytest.approx(theirs["first batch, s"] / ours["first batch, s"])
    assert ours["first epoch, s"] > ours["first batch, s"]
    # By CPU time, which other processes on the machine do not affect.
    assert ours["supply, CPU s/image"] * 5 < theirs["supply, CPU s/image"]


@pytest.mark.parametrize("augmented", [False, True])
def test_both_alternatives_supply_the_same_images(synthetic_shards: Path, tmp_path: Path, augmented: bool) -> None:
    recipe = load_recipe("densenet", overrides=["data.image_size=32"])
    source = find_shards(synthetic_shards)
    split = open_split(source, splits_of(source, recipe.data, 0), "train", recipe.data, quiet=True)
    files = write_png_files(source, split.rows, tmp_path)
    images = PngFiles(files, 32, recipe.data.clahe, augmented)
    assert len(images) == len(split)
    if augmented:
        assert images[0].shape == (1, 32, 32) and images[0].dtype == torch.float32
        assert not torch.equal(images[0], images[0])
    else:
        for i in (0, len(split) - 1):
            assert np.array_equal(images[i][0], split.images[i])


@pytest.mark.parametrize("compiled", [False, True])
def test_step_is_compared_with_a_baseline_loop(
    synthetic_shards: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    compiled: bool,
) -> None:
    backends: list[object] = []

    def traced_only(network: nn.Module) -> nn.Module:
        """As torch.compile, without a C compiler."""
        backends.append(network)
        return network

    monkeypatch.setattr(torch, "compile", traced_only)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text("extends: scratch\nmodel: {backbone: tiny}\n")
    words = ["--size", 32, "--batch", 4, "--accumulate", 2, "--model", recipe, *["--compile"][: int(compiled)]]
    figures = bench(capsys, "step", "--data", synthetic_shards, *words)
    assert len(backends) == int(compiled)
    ours, theirs = figures["training loop"], figures["PyTorch's defaults, no augmentation"]
    assert figures["ratio"]["images/s"] == pytest.approx(ours["images/s"] / theirs["images/s"])
    assert ours["peak memory, MB"] > 0
    assert 0 <= ours["waits for data, %"] <= 100
    assert 0 < ours["augmentation, % of a step"] < 50


def test_the_baseline_loop_uses_pytorch_defaults(synthetic_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The baseline is not slowed down: AdamW with only a learning rate, the default memory format."""
    made: list[dict[str, object]] = []

    class Watched(torch.optim.AdamW):
        def __init__(self, parameters: object, **settings: object) -> None:
            made.append(settings)
            super().__init__(parameters, **settings)  # type: ignore[arg-type]

    assert runs  # registers the tiny backbone
    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    model = CheXVision(backbone="tiny", hidden_features=0)
    images = np.zeros((8, 32, 32), np.uint8)
    before = model.binary_head.bias.detach().clone()
    steps = usual_steps(model, images, np.ones((8, 15), np.float32), start_accelerator("fp32"), 4, 2)
    assert next(steps) > 0
    assert made == [{"lr": 1e-4}]
    assert model.binary_head.bias.item() > before.item()  # it trains
    steps.close()


def test_shards_are_measured_on_radiographs(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for image in sorted((real_data / "nih-sample").rglob("*.png"))[:6]:
        (tmp_path / image.name).symlink_to(image)
    figures = bench(capsys, "shards", "--data", tmp_path)
    assert figures["ours"]["bytes/image"] < 50_000
    assert figures["ours"]["images/s of CPU time"] > figures["Pillow, RGB by Lanczos"]["images/s of CPU time"]
    assert figures["Pillow, grey by area"]["bytes/image"] < 60_000


def test_two_processes_are_compared_with_one(
    synthetic_shards: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = [
        "data.image_size=32",
        "data.split=patient",
        "data.max_train_images=24",
        "data.max_validation_images=8",
        "optim.batch_size=8",
        "optim.micro_batch_size=4",
    ]
    monkeypatch.setattr(two_processes, "_SETTINGS", [*small, two_processes._SETTINGS[-1]])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as the command does; restored afterwards
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    figures = bench(capsys, "processes", "--data", synthetic_shards)
    one, two = figures["one process"]["images/s"], figures["two processes"]["images/s"]
    assert one > 0 and two > 0
    assert figures["one process"]["threads per process"] == figures["two processes"]["threads per process"] == 1
    assert figures["ratio"]["images/s"] == pytest.approx(two / one)


def test_steps_with_a_failing_tracker_are_compared_with_none(
    synthetic_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runs  # registers the tiny backbone
    known = dict(SINKS)
    monkeypatch.setattr(tracked_steps, "_WAYS", ("no tracker", "hangs", "no tracker, again"))
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text("extends: scratch\nmodel: {backbone: tiny}\n")
    words = ["--size", 32, "--batch", 4, "--seconds", 0, "--model", recipe]
    figures = bench(capsys, "track", "--data", synthetic_shards, *words)
    assert list(figures) == ["no tracker", "hangs", "no tracker, again"]
    hangs, without = figures["hangs"], figures["no tracker"]
    assert hangs["ratio"] == pytest.approx(hangs["ms/step"] / without["ms/step"]) and without["ratio"] == 1
    assert hangs["lowest ratio"] == hangs["ratio"] == hangs["highest ratio"]  # of one round
    assert hangs["start, CPU seconds"] > 0
    assert 0 < hangs["µs/record"] <= hangs["slowest record, µs"]
    assert known == SINKS


def test_the_ratio_of_a_tracker_is_the_median_of_those_within_a_round() -> None:
    without = tracked_steps._Measured(steps=[[1.0, 1.0, 9.0], [2.0], [4.0]])
    slower = tracked_steps._Measured(steps=[[1.1, 1.1], [2.4], [12.0, 1.0, 5.2]], sends=[1e-6, 3e-6], start=[0.5])
    figures = tracked_steps._row("hangs", slower, without).figures
    assert figures["ratio"] == pytest.approx(1.2)
    assert figures["lowest ratio"] == pytest.approx(1.1) and figures["highest ratio"] == pytest.approx(1.3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shards", "--data", "/nowhere"], "contains no PNG files"),
        (["input", "--data", "/nowhere"], "/nowhere"),
        (["processes", "--data", "/nowhere"], "/nowhere is not a folder"),
        (["step", "--data", ".", "--device", "tpu"], "choose cpu or cuda"),
        (["input", "--data", ".", "--workers", "4096"], "this machine has"),
    ],
)
def test_invalid_options_are_refused_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *arguments])
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
