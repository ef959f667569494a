"""`predict --on ray`: the file of one machine, whatever fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

from chexvision.cluster.predict_tasks import Asked, answer, describe, tasks_of
from chexvision.cluster.task_pool import TASK_IMAGES
from chexvision.errors import ChexError
from chexvision.images.sources import Found
from chexvision.predict.answer import ModelFacts
from chexvision.predict.inputs import Source, find_sources
from chexvision.predict.journal import About
from chexvision.predict.predictor import BATCH
from tests.cluster.agents import ROOT
from tests.cluster.conftest import TwoNodes, wait_until
from tests.predict.conftest import Run, run
from tests.runtime.small_export import publish

__all__ = ["run"]

TASKS = 6
ABOUT = About(
    model=ModelFacts("m"), model_files="0", engine="e", outputs=("Mass", "Abnormal"), options=(), images=0,
    images_sha256="",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, images for `TASKS` tasks, one of them not readable, and ``here.csv``, the results of one machine."""
    place = tmp_path_factory.mktemp("predict")
    publish(place / "model")
    folder = place / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(TASKS * TASK_IMAGES - 5):
        path = folder / f"{number:05}.png"
        if number < 8:
            cv2.imwrite(str(path), random.integers(0, 255, (96, 90), dtype=np.uint8))
        else:
            os.link(folder / f"{number % 8:05}.png", path)
    (folder / "00999.png").unlink()
    (folder / "00999.png").write_text("not an image")
    done = subprocess.run(words("here.csv"), cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "images/00999.png: not a readable PNG, JPEG or DICOM file" in done.stderr
    return place


def words(out: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "chexvision", "predict", "model", "images", "--out", out, *more]


@contextmanager
def started(place: Path, out: str, nodes: TwoNodes) -> Iterator[subprocess.Popen[str]]:
    command = words(out, "--on", "ray", "--address", nodes.address)
    with subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def computing(node: Any) -> list[psutil.Process]:
    """The workers of a node that predict, once there are some: Ray shows it in their titles."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    found: list[psutil.Process] = []

    def predicts(process: psutil.Process) -> bool:
        try:
            return process.cmdline()[:1] == ["ray::answer"]
        except psutil.Error:  # it has ended since it was listed
            return False

    def look() -> bool:
        found[:] = filter(predicts, raylet.children(recursive=True))
        return bool(found)

    wait_until(look)
    return found


def finished_tasks(place: Path, out: str) -> int:
    return len([*(place / f"{out}.tasks").glob("*.jsonl")])


def test_file_is_that_of_one_machine_though_a_node_is_killed(place: Path, two_nodes: TwoNodes) -> None:
    with started(place, "node.csv", two_nodes) as command:
        # The head node's worker is stopped as long as the other node computes nothing that could be lost.
        head = computing(two_nodes.head)[0]
        head.suspend()
        computing(two_nodes.worker)
        two_nodes.kill()
        head.resume()
        two_nodes.join()
        said, error = command.communicate(timeout=300)
    assert command.returncode == 1
    assert "raylet" not in said + error  # Ray's own message of the node
    assert f"error: images/00999.png: not a readable PNG, JPEG or DICOM file (1 of {TASKS * 512 - 5:,}" in error
    assert (place / "node.csv").read_bytes() == (place / "here.csv").read_bytes()
    assert not (place / "node.csv.tasks").exists()


def test_command_that_was_killed_is_continued(
    place: Path, two_nodes: TwoNodes, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--out", "killed.csv", "--on", "ray", "--address", two_nodes.address, "--workers", "2"]
    command = [sys.executable, "-m", "tests.cluster.cut_command", "SIGKILL", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(
        [*command, "predict", "model", "images", *options],
        cwd=place,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert finished_tasks(place, "killed.csv") == 2
    monkeypatch.chdir(place)
    code, said, error = run("predict", "model", "images", *options)
    assert code == 1
    assert "note: going on after" in error
    assert f"{TASKS * 512 - 6:,} of {TASKS * 512 - 5:,} images" in said
    assert Path("killed.csv").read_bytes() == Path("here.csv").read_bytes()


def test_images_that_are_not_on_a_node_are_no_rows(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    asked = Asked("model", str(place), engine="onnx")
    about = describe(asked)
    assert isinstance(about, About)
    sources = find_sources(["images/00001.png", "images/00002.png"], [])
    (task,) = tasks_of(about, sources)
    rows = answer(asked, task.about, sources)
    assert isinstance(rows, str)
    assert rows.count("\n") == 2
    gone = [sources[0], replace(sources[1], found=replace(sources[1].found, member="of another machine.png"))]
    refused = answer(asked, task.about, gone)
    assert isinstance(refused, ChexError)
    assert "images/of another machine.png is not on node" in str(refused)
    other = answer(asked, task.about.model_copy(update={"model_files": "1"}), sources)
    assert isinstance(other, ChexError)
    assert "has another model, computes it with onnxruntime" in str(other)


def in_container(container: Path, count: int) -> list[Source]:
    return [Source(Found(f"{number}.png", container, f"{number}.png"), "0") for number in range(count)]


@pytest.mark.parametrize(
    ("sizes", "tasks"),
    [
        ({"loose": 3 * TASK_IMAGES + 7}, [TASK_IMAGES] * 3 + [7]),
        ({"all.zip": TASK_IMAGES + 1}, [TASK_IMAGES, 1]),
        # A tar archive is read once: its task ends with it, but for what completes a batch.
        ({"all.tar": 3 * TASK_IMAGES + 7}, [3 * TASK_IMAGES + 7]),
        ({"a.tar.gz": TASK_IMAGES + 3, "b.tar": 900, "c": 40}, [TASK_IMAGES + BATCH, 896, 31]),
    ],
)
def test_tasks_hold_whole_batches_in_order(tmp_path: Path, sizes: dict[str, int], tasks: list[int]) -> None:
    sources = [source for name, count in sizes.items() for source in in_container(tmp_path / name, count)]
    made = [*tasks_of(ABOUT, sources)]
    assert [source for task in made for source in task.sources] == sources
    assert [len(task.sources) for task in made] == tasks
    assert all(len(task.sources) % BATCH == 0 for task in made[:-1])


def test_task_is_another_one_for_another_model_or_a_changed_file(tmp_path: Path) -> None:
    sources = in_container(tmp_path, 3)

    def key(about: About, sources: list[Source]) -> str:
        return next(tasks_of(about, sources)).file_name

    assert key(ABOUT, sources) == key(ABOUT.model_copy(), list(sources))
    assert key(ABOUT.model_copy(update={"options": ("--strict",)}), sources) != key(ABOUT, sources)
    assert key(ABOUT, [*sources[:2], replace(sources[2], stamp="1")]) != key(ABOUT, sources)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--on", "ray"], 2, "--on ray needs --out, the file or folder of the results"),
        (["--on", "ray", "--out", "r.csv", "--explain", "maps"], 2, "--explain is for --on here"),
        (["--on", "ray", "--out", "r.xlsx"], 2, "the name must end in one of .csv, .jsonl, .parquet; a name without"),
        (
            ["--on", "ray", "--out", "r.csv", "--address", "127.0.0.1:9"],
            1,
            "nothing answers at --address 127.0.0.1:9",
        ),
        (["--workers", "2"], 2, "--workers is for --on ray"),
        (["--address", "node0:6379"], 2, "--address node0:6379 is for --on ray; add it"),
        (["--out", "."], 2, "--out . names no file; write its name, such as results.parquet"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    place: Path, run: Run, monkeypatch: pytest.MonkeyPatch, options: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(place)
    ended, said, error = run("predict", "model", "images", *options)
    assert (ended, said, error.count("\n")) == (code, "", 1)
    assert message in error
    assert not Path("r.csv.tasks").exists()
