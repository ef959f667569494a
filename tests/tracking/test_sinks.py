"""The three libraries, offline: what was sent can be read back, and a resumed run has no step twice."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from chexvision.errors import ChexError
from chexvision.files.atomic_folder import locked
from chexvision.tracking.event_files import copy_event_files
from chexvision.tracking.sink_process import LOCK
from chexvision.tracking.tracker import SINKS, Tracker

RUN = {"run_id": "scratch-1", "group": "scratch", "config": {"optim": {"lr": 1e-3}}}
SECONDS = 120.0  # of a machine that does much else


@pytest.fixture(autouse=True)
def _no_other_destination(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("TRACKIO_", "WANDB_")):
            monkeypatch.delenv(name)


def track(sink: str, folder: Path, steps: range) -> None:
    with Tracker(sink, folder, RUN) as tracker:
        for step in steps:
            tracker.send(step, {"step_loss": 1 / step, "auroc/Hernia": 0.5})
        tracker.close(SECONDS)


def track_twice(sink: str, folder: Path) -> None:
    """A session that is killed after step 5, and one that resumes from a state of step 3."""
    track(sink, folder, range(1, 6))
    track(sink, folder, range(4, 9))


def wandb_records(file: Path) -> Iterator[Any]:
    """The log of an offline run: 7 bytes, then records of checksum, length, kind and content."""
    from wandb.proto import wandb_internal_pb2

    data, at = file.read_bytes(), 7
    assert len(data) < 1 << 15  # more would be divided into blocks
    while at < len(data):
        length = int.from_bytes(data[at + 4 : at + 6], "little")
        record = wandb_internal_pb2.Record()  # type: ignore[attr-defined] # made at import
        record.ParseFromString(data[at + 7 : at + 7 + length])
        at += 7 + length
        yield record


def test_trackio_writes_a_database_in_the_runs_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    track_twice("trackio", tmp_path)
    with closing(sqlite3.connect(tmp_path / "chexvision.db")) as database:
        rows = database.execute("select step, run_name, metrics from metrics order by id").fetchall()
        ((config,),) = database.execute("select config from configs").fetchall()
    assert [step for step, _, _ in rows] == list(range(1, 9))
    assert {name for _, name, _ in rows} == {"scratch-1"}
    assert json.loads(rows[3][2]) == {"step_loss": 0.25, "auroc/Hernia": 0.5}
    assert json.loads(config)["optim"] == {"lr": 1e-3} and json.loads(config)["_Username"] is None
    assert capfd.readouterr() == ("", "")


def test_tensorboard_writes_event_files_in_the_runs_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    track_twice("tensorboard", tmp_path)
    assert capfd.readouterr() == ("", "")
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    scalars = events.Scalars("step_loss")
    assert [one.step for one in scalars] == list(range(1, 9))
    assert scalars[3].value == 0.25
    assert events.Scalars("auroc/Hernia")[0].value == 0.5
    assert b'"lr": 0.001' in events.Tensors("recipe")[0].tensor_proto.string_val[0]


def test_a_session_waits_for_what_the_one_before_it_is_still_tracking(tmp_path: Path) -> None:
    """Training was killed, its tracker's process has records left, and the run is resumed at once."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def lines(steps: range) -> bytes:
        return b"".join(json.dumps({"step": step, "values": {"step_loss": 1.0}}).encode() + b"\n" for step in steps)

    command = ["-P", "-m", "chexvision.tracking.sink_process", SINKS["tensorboard"].target, str(tmp_path)]
    with subprocess.Popen([sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdin is not None and first.stdout is not None
        first.stdin.write(json.dumps(RUN).encode() + b"\n" + lines(range(1, 6)))
        first.stdin.flush()
        assert first.stdout.read(5) == b"+++++"
        with pytest.raises(ChexError, match="busy"), locked(tmp_path / LOCK, "busy"):
            pass
        with Tracker("tensorboard", tmp_path, RUN) as tracker:
            for step in range(4, 9):
                tracker.send(step, {"step_loss": 1.0})
            first.stdin.write(lines(range(6, 8)))
            first.stdin.close()
            assert first.wait(SECONDS) == 0
            tracker.close(SECONDS)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [one.step for one in events.Scalars("step_loss")] == list(range(1, 9))


def test_event_files_are_published_in_the_folder_that_the_hub_shows_without_the_name_of_the_host(
    tmp_path: Path,
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    track_twice("tensorboard", tmp_path / "tracking")
    (tmp_path / "model").mkdir()
    copy_event_files(tmp_path / "tracking", tmp_path / "model")
    files = sorted((tmp_path / "model").rglob("*.*"))
    assert len(files) == 2 and {file.parent for file in files} == {tmp_path / "model" / "runs"}
    assert all(re.fullmatch(r"events\.out\.tfevents\.\d+\.chexvision\.[01]", file.name) for file in files)
    assert not any(socket.gethostname().encode() in file.read_bytes() for file in files)
    events = EventAccumulator(str(tmp_path / "model" / "runs"))
    events.Reload()
    assert [one.step for one in events.Scalars("step_loss")] == list(range(1, 9))


def test_event_files_that_cannot_be_read_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "events.out.tfevents.1.host").touch()
    (tmp_path / "events.out.tfevents.2.host").symlink_to("gone")
    (tmp_path / "model").mkdir()
    copy_event_files(tmp_path, tmp_path / "model")
    assert not [*(tmp_path / "model").iterdir()]
    assert "without TensorBoard's files: No such file or directory" in caplog.text


def test_tensorboard_resumes_after_an_event_file_that_was_cut(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    track("tensorboard", tmp_path, range(1, 6))
    (file,) = tmp_path.glob("events.*")
    file.write_bytes(file.read_bytes()[:-10])
    track("tensorboard", tmp_path, range(4, 9))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [one.step for one in events.Scalars("step_loss")] == list(range(1, 9))


def test_wandb_writes_offline_and_values_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    track_twice("wandb", tmp_path)
    assert capfd.readouterr() == ("", "")
    files = sorted(tmp_path.glob("wandb/offline-run-*/run-scratch-1.wandb"))
    assert len(files) == 2
    contents = b"".join(file.read_bytes() for file in files)
    assert b"step_loss" in contents and b"auroc/Hernia" in contents
    assert (tmp_path / "wandb-step.txt").read_text() == "8"
    records = [record for file in files for record in wandb_records(file)]
    assert [record.history.step.num for record in records if record.HasField("history")] == list(range(1, 9))
    assert {record.run.host for record in records if record.HasField("run")} == {""}
    assert sys.executable.encode() not in contents and str(Path.cwd()).encode() not in contents


def test_wandb_online_without_a_key_asks_for_no_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("HOME", str(tmp_path))
    track("wandb", tmp_path / "tracking", range(1, 3))
    error = capfd.readouterr().err
    assert error.startswith("WARNING: tracking with wandb ") and error.count("\n") == 1, error


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address, with its write token, and the folder of a trackio server on loopback."""
    code = "import trackio; trackio.show(open_browser=False, block_thread=True, host='127.0.0.1')"
    more = {"TRACKIO_DIR": str(tmp_path / "server"), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    log = tmp_path / "server.log"
    command = [sys.executable, "-c", code]
    with (
        log.open("w") as out,
        subprocess.Popen(command, env=os.environ | more, stdout=out, stderr=subprocess.STDOUT) as process,
    ):
        try:
            yield _address(process, log), tmp_path / "server"
        finally:
            process.kill()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """What the server prints of itself, in limited time."""
    end = time.monotonic() + SECONDS
    while (found := re.search(r"http://127\.0\.0\.1:\d+/?\?write_token=\S+(?=\s)", log.read_text())) is None:
        assert process.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.05)
    return found[0]


def test_trackio_sends_to_a_server_and_resumes_from_its_last_step(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    address, folder = server
    monkeypatch.setenv("TRACKIO_SERVER_URL", address)
    track("trackio", tmp_path / "first", range(1, 6))
    track("trackio", tmp_path / "other machine", range(4, 9))
    with closing(sqlite3.connect(folder / "chexvision.db")) as database:
        steps = [step for (step,) in database.execute("select step from metrics order by id")]
    assert steps == list(range(1, 9))
    assert capfd.readouterr() == ("", "")
