from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from chexvision.runs.branch import RunBranch
from chexvision.runs.run_progress import PROGRESS_FILE, RunProgress, read_progress
from chexvision.training.history import EpochRecord, History
from chexvision.training.reporter import ConsoleReporter
from chexvision.training.training_session import BEST_FILE, STATE_FILE, TrainingProgress
from tests.fakes.hub import FakeHub
from tests.training.runs import tiny_training

REPO = "chex/model"


def test_an_unreported_epoch_of_a_killed_session_is_reported_by_the_next(
    synthetic_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed = tiny_training(synthetic_shards, tmp_path)
    killed.run()
    progress = TrainingProgress(tmp_path, "run-1")
    progress.epoch_begins(3)
    progress.epoch_done(killed.history[:-1])

    resumed = tiny_training(synthetic_shards, tmp_path)
    resumed.reporter = ConsoleReporter()
    resumed.run()
    assert capsys.readouterr().out == "continuing after epoch 3\n"
    progress.resumed(resumed.history)
    reported = read_progress(tmp_path, "run-1")
    assert reported is not None, (tmp_path / PROGRESS_FILE).read_text()
    assert (reported.epoch, [point.epoch for point in reported.points]) == (3, [1, 2, 3])
    best = max(killed.history, key=lambda record: (record.macro_auroc or 0, -record.epoch))
    assert (reported.best_epoch, reported.best_macro_auroc) == (best.epoch, best.macro_auroc)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The elapsed seconds, a number that tests set."""
    now = [0.0]
    monkeypatch.setattr("chexvision.training.training_session.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def record(epoch: int) -> EpochRecord:
    scores = {"train_loss": 1.0, "validation_loss": 1.0, "macro_auroc": 0.5 + epoch / 100}
    return cast(EpochRecord, SimpleNamespace(epoch=epoch, train_seconds=1.0, validation_seconds=1.0, **scores))


def test_state_is_uploaded_at_most_every_half_hour_and_at_a_pause(
    tmp_path: Path, fake_hub: FakeHub, clock: list[float]
) -> None:
    def committed() -> tuple[int, int, bytes]:
        """Of the branch's newest commit: epochs in the progress, reported epochs of the state, and the state."""
        files = fake_hub.commits(REPO, "run/run-1")[0].files
        reported = RunProgress.model_validate_json(files[PROGRESS_FILE])
        return reported.epoch, reported.state_epoch, files.get(STATE_FILE, b"")

    def saved(epoch: int) -> bytes:
        for name, content in ((STATE_FILE, b"state %d" % epoch), (BEST_FILE, b"best")):
            (tmp_path / name).unlink(missing_ok=True)
            (tmp_path / name).write_bytes(content)
        return b"state %d" % epoch

    progress = TrainingProgress(tmp_path, "run-1", branch=RunBranch(REPO, "run-1"))
    with progress.session as session:
        for epoch, minutes, state in ((1, 5, 1), (2, 20, 1), (3, 34, 1), (4, 36, 4), (5, 50, 4)):
            clock[0] = 60.0 * minutes
            progress.epoch_begins(9)
            saved(epoch)
            progress.epoch_done(cast(History, [record(number) for number in range(1, epoch + 1)]))
            while committed()[0] != epoch:
                time.sleep(0.01)
            assert committed() == (epoch, state, b"state %d" % state)
        assert read_progress(tmp_path).state_epoch == 5  # type: ignore[union-attr] # next to the state itself
        session.paused()
    assert committed() == (5, 5, b"state 5")
    uploads = [request.path for request in fake_hub.requests if request.method == "PUT"]
    assert len(uploads) == 3 + 1  # the best weights never changed
    assert fake_hub.stored_bytes(REPO) == len(b"state 5") + len(b"best")


def test_failed_session_uploads_its_last_state(tmp_path: Path, fake_hub: FakeHub, clock: list[float]) -> None:
    progress = TrainingProgress(tmp_path, "run-1", branch=RunBranch(REPO, "run-1"))
    with pytest.raises(ZeroDivisionError), progress.session:
        progress.epoch_begins(9)
        for epoch in (1, 2):
            (tmp_path / STATE_FILE).unlink(missing_ok=True)
            (tmp_path / STATE_FILE).write_bytes(b"state %d" % epoch)
            progress.epoch_done(cast(History, [record(number) for number in range(1, epoch + 1)]))
        raise ZeroDivisionError
    files = fake_hub.commits(REPO, "run/run-1")[0].files
    reported = RunProgress.model_validate_json(files[PROGRESS_FILE])
    assert (reported.status, reported.state_epoch, files[STATE_FILE]) == ("failed", 2, b"state 2")


def test_session_reports_the_epochs_of_its_state_not_lost_ones(tmp_path: Path) -> None:
    points = [{"epoch": epoch, "train_loss": 1, "validation_loss": 1, "macro_auroc": 0.5} for epoch in (1, 2, 3)]
    left = {"run_id": "run-1", "status": "training", "session": 1, "updated_at": "", "epoch": 3, "saved_epoch": 1}
    (tmp_path / PROGRESS_FILE).write_text(json.dumps({**left, "points": points, "state": [STATE_FILE]}))
    (tmp_path / STATE_FILE).touch()
    progress = TrainingProgress(tmp_path, "run-1").session.progress
    assert (progress.session, progress.epoch, [point.epoch for point in progress.points]) == (2, 1, [1])


def test_one_stop_signal_may_arrive_twice(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A terminal signals every process of a command, and a launcher forwards the signal again."""
    with TrainingProgress(tmp_path, "run-1").session as session:
        assert not session.should_stop()
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert session.stop_reason == "signal"
        session.paused()
    assert capfd.readouterr().err.count("once more ends at once") == 1
    reported = read_progress(tmp_path)
    assert reported is not None
    assert (reported.stop_reason, reported.note) == ("signal", "it received SIGINT")


def test_a_second_stop_request_ends_at_once(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from chexvision.training.training_session import TrainingProgress\n"
        "with TrainingProgress(Path(sys.argv[1]), 'run-1').session:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    began = time.monotonic()\n"
        "    time.monotonic = lambda: began + 3\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "print('still here')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False, timeout=300
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
def test_session_on_kaggle_reports_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, session_id: int | None
) -> None:
    monkeypatch.setenv("KAGGLE_CONTAINER_NAME", name)
    with TrainingProgress(tmp_path, "run-1").session:
        reported = read_progress(tmp_path)
    assert reported is not None
    assert reported.kaggle_session_id == session_id


@pytest.mark.parametrize(
    ("error", "reason"), [(ValueError("no image"), "error"), (ConnectionError("reset"), "transient_error")]
)
def test_failed_session_reports_whether_the_error_is_transient(tmp_path: Path, error: Exception, reason: str) -> None:
    with pytest.raises(type(error)), TrainingProgress(tmp_path, "run-1").session:
        raise error
    reported = read_progress(tmp_path)
    assert reported is not None
    assert (reported.status, reported.stop_reason) == ("failed", reason)


def test_session_paused_by_another_rank_reports_time_budget(tmp_path: Path) -> None:
    """Ranks start seconds apart, and the first one at the limit stops all of them."""
    for hours, reason in ((1 / 60, "time_budget"), (1.0, "signal")):
        with TrainingProgress(tmp_path, "run-1", max_hours=hours).session as session:
            assert not session.should_stop()
            session.paused()
        reported = read_progress(tmp_path)
        assert reported is not None
        assert reported.stop_reason == reason


@pytest.mark.parametrize(
    "changed",
    [{"seconds_left": float("inf")}, {"seconds_left": -5}, {"best_macro_auroc": float("nan")}, {"epoch": -1}],
)
def test_progress_with_impossible_numbers_is_not_read(tmp_path: Path, changed: dict[str, float]) -> None:
    reported = {"run_id": "run-1", "status": "training", "session": 1, "updated_at": ""}
    (tmp_path / PROGRESS_FILE).write_text(json.dumps(reported))
    assert read_progress(tmp_path) is not None
    (tmp_path / PROGRESS_FILE).write_text(json.dumps({**reported, **changed}))
    assert read_progress(tmp_path) is None


def test_complete_session_that_cannot_publish_reports_it_and_uploads_its_state(
    tmp_path: Path, fake_hub: FakeHub
) -> None:
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    progress = TrainingProgress(tmp_path, "run-1", branch=RunBranch(REPO, "run-1"))
    with pytest.raises(ZeroDivisionError), progress.session:
        (tmp_path / STATE_FILE).write_bytes(b"state 1")
        progress.epoch_begins(1)
        progress.epoch_done(cast(History, [record(1)]))
        (tmp_path / STATE_FILE).unlink()
        (tmp_path / STATE_FILE).write_bytes(b"state 2")
        progress.trained(artifact)
        raise ZeroDivisionError("no publication")
    files = fake_hub.commits(REPO, "run/run-1")[0].files
    reported = RunProgress.model_validate_json(files[PROGRESS_FILE])
    assert (reported.status, reported.note, reported.published) == ("complete", "no publication", None)
    assert files[STATE_FILE] == b"state 2"
