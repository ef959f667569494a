"""A Kaggle and a Hub on the loopback, and commands typed in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.dispatch.conftest import checkout, cli, own_world, packs_stand_in, shards
from tests.fakes.hub import FakeHub
from tests.fakes.kaggle import FakeKaggle

__all__ = ["checkout", "cli", "own_world", "packs_stand_in", "shards"]

SHA = "44443e6ee968b3c6094b63f14a27698c40b50680"
DISPATCH = ["dispatch", "--model", "densenet", "--data", f"chex/xrays@{SHA}"]
Typed = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def _data_set(own_world: None, request: pytest.FixtureRequest) -> None:
    """The data set that `DISPATCH` names, on the Hub of the test."""
    if "fake_hub" in request.fixturenames:
        request.getfixturevalue("fake_hub").plant_dataset("chex/xrays", SHA)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A folder in which the file N lets epoch N end."""
    folder = tmp_path / "gate"
    folder.mkdir()
    return folder


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_hub: FakeHub, gate: Path) -> Iterator[FakeKaggle]:
    """Sessions run three epochs of the stand-in, and find a Hub token in Kaggle's secrets."""
    for name in ("POLL_S",):
        monkeypatch.setattr(f"chexvision_dispatch.runs.{name}", 0.05)
    monkeypatch.setattr("chexvision_dispatch.kaggle_output.WAIT_S", 0.05)
    monkeypatch.setattr("chexvision_dispatch.kaggle_output.SILENCE_S", 0.5)
    env = {"STANDIN_EPOCHS": "3", "STANDIN_GATE": str(gate), "CHEXVISION_LOOK_SECONDS": "0.05"}
    with FakeKaggle(
        tmp_path / "kaggle",
        secrets={"HF_TOKEN": "hf_right"},
        session_env={**fake_hub.env, **env},
        dataset_polls=0,
        record_bodies=True,
    ) as fake:
        fake.environment(monkeypatch)
        yield fake


@pytest.fixture
def typed(checkout: Path, kaggle: FakeKaggle) -> Typed:
    """Start a command as a user types it: a process of its own, which may be killed."""
    paths = [str(checkout / "src"), str(checkout / "dispatch")]
    start = "import sys; from chexvision.cli import main; main(sys.argv[1:])"

    def run(*words: str) -> subprocess.Popen[str]:
        env = kaggle.subprocess_env()
        env["PYTHONPATH"] = os.pathsep.join([*paths, env["PYTHONPATH"]])
        command = [sys.executable, "-u", "-c", start, *words]
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return run


def let(gate: Path, *epochs: int) -> None:
    """Let epochs end."""
    for epoch in epochs:
        (gate / str(epoch)).touch()
