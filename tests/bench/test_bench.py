from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from chexvision.cli import main


@pytest.fixture(autouse=True)
def _keep_cores() -> object:
    """A benchmark holds its process to some cores; the tests after it want them back."""
    cores = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, cores)


def bench(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, dict[str, float]]:
    """The figures that a benchmark prints as JSON, by way."""
    with pytest.raises(SystemExit) as ended:
        main(["bench", *map(str, arguments)])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    report = json.loads(printed.out)
    assert report["machine"]["cores"] >= 1 and report["versions"]["torch"]
    return {row["way"]: row["figures"] for row in report["rows"]}


def test_input_is_measured_beside_a_file_an_image(drawn_shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = bench(capsys, "input", "--data", drawn_shards, "--size", 64, "--batch", 16, "--workers", 1)
    ours, theirs = figures["decoded once"], figures["a PNG file an image"]
    assert figures["times better"]["supply, images/s"] == pytest.approx(
        ours["supply, images/s"] / theirs["supply, images/s"]
    )
    # By CPU time, which another process on the machine does not take away.
    assert ours["supply, CPU s/image"] * 5 < theirs["supply, CPU s/image"]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_is_measured_beside_the_usual_loop(
    drawn_shards: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    backends: list[object] = []

    def traced_only(network: nn.Module) -> nn.Module:
        """As torch.compile, without a C compiler."""
        backends.append(network)
        return network

    monkeypatch.setattr(torch, "compile", traced_only)
    words = ["--size", 32, "--batch", 4, "--accumulate", 2, "--model", "densenet", *["--compile"][: int(compiled)]]
    figures = bench(capsys, "step", "--data", drawn_shards, *words)
    assert len(backends) == int(compiled)
    assert figures["ours"]["images/s"] > 0
    assert figures["ours"]["peak memory, MB"] > 0
    assert 0 <= figures["ours"]["waits for data, %"] <= 100
    assert 0 < figures["ours"]["augmentation, % of a step"] < 50


def test_shards_are_measured_on_radiographs(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for image in sorted((real_data / "nih-sample").rglob("*.png"))[:6]:
        (tmp_path / image.name).symlink_to(image)
    figures = bench(capsys, "shards", "--data", tmp_path)
    assert figures["ours"]["bytes/image"] < 50_000
    assert figures["ours"]["images/s of CPU time"] > figures["Pillow, RGB"]["images/s of CPU time"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shards", "--data", "/nowhere"], "holds no PNG files"),
        (["input", "--data", "/nowhere"], "/nowhere"),
        (["step", "--data", ".", "--device", "tpu"], "choose cpu or cuda"),
        (["input", "--data", ".", "--workers", "4096"], "this machine has"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *arguments])
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
