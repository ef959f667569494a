"""A tracker never slows, fails or changes training, whatever its library does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from chexvision.bench.failing_sinks import FAILING
from chexvision.tracking import tracker as module
from chexvision.tracking.tracker import MOST_WAITING, SINKS, SinkKind, Tracker

RUN = {"run_id": "scratch-1", "group": "scratch", "config": {"optim": {"lr": 1e-3}}}
# What the one warning says of each.
SAID = {
    "hangs": "lost 50 of 50 records: it did not end in time and was killed",
    "raises": "RuntimeError: no connection with ***",
    "is killed": "its process was killed",
    "full disk": "No space left on device",
}


def use(monkeypatch: pytest.MonkeyPatch, target: str, package: str = "pytest") -> None:
    """Let training.track=trackio be another sink."""
    monkeypatch.setitem(SINKS, "trackio", SinkKind(target, package, "'chexvision[track]'"))


def failing(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    use(monkeypatch, f"chexvision.bench.failing_sinks:{FAILING[way].__name__}")


@pytest.mark.parametrize("way", FAILING)
def test_a_failing_library_costs_one_warning(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, way)
    monkeypatch.setenv("HF_TOKEN", "hf_a_secret_of_the_user")
    with Tracker("trackio", tmp_path, RUN) as tracker:
        process = tracker._process
        assert process is not None
        for step in range(50):
            tracker.send(step, {"loss": 1.0})
        tracker.close(0.5 if way == "hangs" else 60.0)
    assert process.returncode is not None
    printed = capfd.readouterr()
    assert printed.out == ""
    if way == "prints a flood":
        assert printed.err == ""
    else:
        assert printed.err.startswith("WARNING: tracking with trackio ") and printed.err.count("\n") == 1
        assert SAID[way] in printed.err
        assert "secret" not in printed.err


def test_a_library_that_ended_is_reported_while_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, "raises")
    with Tracker("trackio", tmp_path, RUN) as tracker:
        tracker.send(1, {"loss": 1.0})
        assert tracker._process is not None
        tracker._process.wait(300)
        tracker.send(2, {"loss": 1.0})
        tracker.send(3, {"loss": 1.0})
        printed = capfd.readouterr().err
    assert "ended before step 2: RuntimeError: no connection" in printed
    assert capfd.readouterr().err == ""


def test_records_beyond_what_may_wait_are_dropped_from_the_oldest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A process that hangs reads nothing: the pipe and the queue fill, and sending does not wait."""
    failing(monkeypatch, "hangs")
    values = {f"auroc/{number}": 0.5 for number in range(50)}
    sent = 3 * MOST_WAITING
    with Tracker("trackio", tmp_path, RUN) as tracker:
        for step in range(sent):
            tracker.send(step, values)
        assert len(tracker._waiting) == MOST_WAITING
        assert json.loads(tracker._waiting[-1])["step"] == sent - 1
        tracker.close(0.1)
    assert f"lost {sent} of {sent} records" in capfd.readouterr().err


def test_a_missing_package_is_one_line_that_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, "nothing:Nothing", package="no-such-distribution")
    with Tracker("trackio", tmp_path, RUN) as tracker:
        tracker.send(1, {"loss": 1.0})
    error = capfd.readouterr().err
    assert error.startswith("WARNING: training.track=trackio needs a package") and error.count("\n") == 1
    assert "pip install 'chexvision[track]'" in error


def test_nothing_is_started_without_a_sink(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Tracker("none", tmp_path / "tracking", RUN) as tracker:
        tracker.send(1, {"loss": 1.0})
        assert tracker._process is None
    assert capfd.readouterr() == ("", "") and not (tmp_path / "tracking").exists()


def test_a_call_that_hangs_ends_the_process_by_itself(tmp_path: Path) -> None:
    """Nobody else is left to end it where training was killed."""
    code = (
        "import sys; from pathlib import Path; from chexvision.tracking import sink_process as one;"
        "one.CALL_SECONDS = 0.2; one.main('chexvision.bench.failing_sinks:Hanging', Path(sys.argv[1]))"
    )
    lines = json.dumps(RUN) + "\n" + json.dumps({"step": 1, "values": {}}) + "\n"
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, input=lines, text=True, capture_output=True, timeout=300, check=False)
    assert done.returncode == 1


def test_the_end_of_a_run_waits_for_a_hanging_library_for_a_limited_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "hangs")
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.0)
    with Tracker("trackio", tmp_path, RUN) as tracker:
        tracker.send(1, {"loss": 1.0})
        process = tracker._process
    assert process is not None and process.returncode == -9
