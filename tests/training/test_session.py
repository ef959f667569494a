from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chexvision.hub.run_progress import PROGRESS_FILE, read_progress
from chexvision.training.report import ConsoleReporter
from chexvision.training.session import TrainingSession
from tests.training.runs import tiny_training


def test_an_epoch_that_a_killed_session_had_no_time_to_tell_of_is_told_by_the_next(
    drawn_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed = tiny_training(drawn_shards, tmp_path)
    killed.run()
    session = TrainingSession(tmp_path, "run-1")
    session.epoch_begins(3)
    session.epoch_done(killed.history[:-1])

    resumed = tiny_training(drawn_shards, tmp_path)
    resumed.reporter = ConsoleReporter()
    resumed.run()
    assert capsys.readouterr().out == "going on after epoch 3\n"
    session.resumed(resumed.history)
    told = read_progress(tmp_path, "run-1")
    assert told is not None, (tmp_path / PROGRESS_FILE).read_text()
    assert (told.epoch, [point.epoch for point in told.points]) == (3, [1, 2, 3])
    best = max(killed.history, key=lambda record: (record.macro_auroc or 0, -record.epoch))
    assert (told.best_epoch, told.best_macro_auroc) == (best.epoch, best.macro_auroc)


def test_one_stop_request_may_arrive_twice(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A terminal signals every process of a command, and a launcher passes the signal on once more."""
    with TrainingSession(tmp_path, "run-1") as session:
        assert not session.should_stop()
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert session.stop_reason == "signal"
        session.paused()
    assert capfd.readouterr().err.count("once more ends at once") == 1
    told = read_progress(tmp_path)
    assert told is not None
    assert (told.stop_reason, told.note) == ("signal", "it received SIGINT")


def test_a_second_stop_request_ends_at_once(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from chexvision.training.session import TrainingSession\n"
        "with TrainingSession(Path(sys.argv[1]), 'run-1'):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    began = time.monotonic()\n"
        "    time.monotonic = lambda: began + 3\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "print('still here')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")


@pytest.mark.parametrize(
    ("name", "session_id"),
    [
        ("kaggle_Tk9uZQ-290000001-webtier", 290000001),
        ("kaggle_a-b_c-7-webtier", 7),
        ("kaggle_Tk9uZQ-webtier", None),
        ("", None),
    ],
)
def test_session_on_kaggle_tells_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, session_id: int | None
) -> None:
    monkeypatch.setenv("KAGGLE_CONTAINER_NAME", name)
    with TrainingSession(tmp_path, "run-1"):
        told = read_progress(tmp_path)
    assert told is not None
    assert told.kaggle_session_id == session_id


@pytest.mark.parametrize(
    ("error", "reason"), [(ValueError("no image"), "error"), (ConnectionError("reset"), "transient_error")]
)
def test_session_that_fails_tells_whether_that_may_pass(tmp_path: Path, error: Exception, reason: str) -> None:
    with pytest.raises(type(error)), TrainingSession(tmp_path, "run-1"):
        raise error
    told = read_progress(tmp_path)
    assert told is not None
    assert (told.status, told.stop_reason) == ("failed", reason)


def test_session_that_another_process_paused_at_the_limit_says_time_budget(tmp_path: Path) -> None:
    """Processes begin seconds apart, and the first to reach the limit stops all of them."""
    for hours, reason in ((1 / 60, "time_budget"), (1.0, "signal")):
        with TrainingSession(tmp_path, "run-1", max_hours=hours) as session:
            assert not session.should_stop()
            session.paused()
        told = read_progress(tmp_path)
        assert told is not None
        assert told.stop_reason == reason
