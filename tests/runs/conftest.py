"""A fake Kaggle and a fake Hub on the loopback, and commands in their own processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chexvision.provenance import now
from chexvision.runs.run_progress import RunProgress
from chexvision_dispatch import run_records as records
from chexvision_dispatch.view import target_of
from tests.dispatch.conftest import checkout, cli, isolated_environment, packs_stand_in, shards
from tests.dispatch.standin import RECORD
from tests.fakes.hub import FakeHub
from tests.fakes.kaggle import FakeKaggle
from tests.fakes.kaggle_session import Session

__all__ = ["checkout", "cli", "isolated_environment", "packs_stand_in", "shards"]

SHA = "44443e6ee968b3c6094b63f14a27698c40b50680"
DISPATCH = ["dispatch", "--model", "densenet", "--data", f"chex/xrays@{SHA}"]
Typed = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def _data_set(isolated_environment: None, request: pytest.FixtureRequest) -> None:
    """The dataset that `DISPATCH` names, on the fake Hub."""
    if "fake_hub" in request.fixturenames:
        request.getfixturevalue("fake_hub").add_dataset_at("chex/xrays", SHA)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A folder in which creating file N ends epoch N."""
    folder = tmp_path / "gate"
    folder.mkdir()
    return folder


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_hub: FakeHub, gate: Path) -> Iterator[FakeKaggle]:
    """Sessions run three epochs of the stub and find a Hub token in Kaggle's secrets."""
    for name in ("POLL_S",):
        monkeypatch.setattr(f"chexvision_dispatch.runs.{name}", 0.05)
    monkeypatch.setattr("chexvision_dispatch.targets.session_log.WAIT_S", 0.05)
    monkeypatch.setattr("chexvision_dispatch.targets.kaggle_output.SILENCE_S", 0.5)
    env = {"STANDIN_EPOCHS": "3", "STANDIN_GATE": str(gate), "CHEXVISION_POLL_SECONDS": "0.05"}
    with FakeKaggle(
        tmp_path / "kaggle",
        secrets={"HF_TOKEN": "hf_right"},
        session_env={**fake_hub.env, **env},
        dataset_polls=0,
        starts_in="src",
        record_bodies=True,
    ) as fake:
        fake.environment(monkeypatch)
        yield fake


@pytest.fixture
def typed(checkout: Path, kaggle: FakeKaggle) -> Typed:
    """Start a command line in its own process, which may be killed."""
    paths = [str(checkout / "src"), str(checkout / "dispatch")]
    start = "import sys; from chexvision.cli import main; main(sys.argv[1:])"

    def run(*words: str) -> subprocess.Popen[str]:
        env = kaggle.subprocess_env()
        env["PYTHONPATH"] = os.pathsep.join([*paths, env["PYTHONPATH"]])
        command = [sys.executable, "-u", "-c", start, *words]
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return run


# The target options in the record of a run on the loopback.
KAGGLE_OPTIONS: dict[str, records.Option] = {
    "accelerator": "NvidiaTeslaT4",
    "timeout_hours": 1.0,
    "token_dataset": None,
    "docker_image": None,
    "public": False,
}
# Completes the run from the output of the previous session.
NEXT_SESSION = """
import json, pathlib
(reported,) = pathlib.Path("../input").rglob("progress.json")
progress = json.loads(reported.read_text()) | {"status": "complete", "session": 2, "stop_reason": None}
pathlib.Path("../working/progress.json").write_text(json.dumps(progress))
"""


@pytest.fixture
def held_session(kaggle: FakeKaggle, tmp_path: Path) -> Iterator[Session]:
    """A session in Kaggle's queue, and its run record; tests set its output and its outcome."""
    folder = tmp_path / "held"
    folder.mkdir()
    (folder / "script.py").write_text(NEXT_SESSION)
    record = replace(RECORD, target="kaggle", to="chex/model", options=KAGGLE_OPTIONS, folder=str(folder))
    kaggle.hold()
    target = target_of(record)
    target.check(None)
    target.prepare(record, folder)
    records.save(replace(record, sessions=(target.start(record, folder),)))
    yield kaggle.sessions[0]
    kaggle.sessions[0].status = "COMPLETE"  # it has no process to end


def write_progress(session: Session, status: str, **progress: object) -> None:
    """Write the progress file of a session that does not run."""
    reported = {"run_id": RECORD.run_id, "status": status, "session": session.number, "updated_at": now(), **progress}
    text = RunProgress.model_validate(reported).to_json()
    (session.working / "progress.json").write_text(text)


def end_epochs(gate: Path, *epochs: int) -> None:
    """Let these epochs end."""
    for epoch in epochs:
        (gate / str(epoch)).touch()
