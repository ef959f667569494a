"""Watching a run through an outage: minutes of errors print one line; time is simulated."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from chexvision import retry
from tests.dispatch.standin import Cli
from tests.fakes.faults import Fault, Rule
from tests.fakes.kaggle import FakeKaggle
from tests.fakes.kaggle_session import Session
from tests.runs.conftest import write_progress

OUTAGE_S = 600.0


class Clock:
    """Simulated time: `sleep` advances it at once. `after` is called when an outage is over."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.after: Callable[[], object] = lambda: None

    def sleep(self, seconds: float) -> None:
        before, self.now = self.now, self.now + seconds
        self.slept.append(seconds)
        if before < OUTAGE_S <= self.now:
            self.after()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(retry, "sleep", clock.sleep)
    monkeypatch.setattr(retry, "clock", lambda: clock.now)
    return clock


def write_lines(session: Session, *lines: str) -> None:
    session.events += [{"stream_name": "stdout", "time": 0.0, "data": line} for line in lines]


def complete(session: Session) -> None:
    write_progress(session, "complete")
    session.status = "COMPLETE"


def fail_requests(kaggle: FakeKaggle, clock: Clock, action: Fault, first: str = "GetKernelSessionStatus") -> Rule:
    """Every request fails for `OUTAGE_S` once the first one that contains `first` was answered."""
    seen: list[str] = []

    def applies(line: str) -> bool:
        strikes = bool(seen) and clock.now < OUTAGE_S
        if first in line:
            seen.append(line)
        return strikes

    return kaggle.faults.add(applies, action, times=100_000)


def outage_lines(err: str) -> list[str]:
    return [line for line in err.splitlines() if "Polling until" in line or "answered again" in line]


@pytest.mark.parametrize("words", [["wait"], ["status", "--watch"], ["wait", "--auto-resume"], ["logs", "-f"]])
def test_ten_minutes_of_http_503_while_watching_print_one_line(
    cli: Cli, kaggle: FakeKaggle, clock: Clock, held_session: Session, words: list[str]
) -> None:
    write_lines(held_session, "epoch 1\n", "epoch 2\n", "epoch 3\n")
    held_session.status = "RUNNING"

    def after_outage() -> None:
        write_lines(held_session, "trained\n")
        complete(held_session)

    clock.after = after_outage
    kaggle.faults.add("logs/stream", Fault.disconnect(150))
    rule = fail_requests(kaggle, clock, Fault.status(503))
    result = cli("runs", *words)
    assert result.code == 0, result.err
    assert OUTAGE_S <= clock.now < OUTAGE_S + 150
    assert 5 < rule.fired < 20  # with backoff
    outage, over = outage_lines(result.err)
    assert "Kaggle answered HTTP 503" in outage
    assert over.startswith("answered again after 1")
    assert len(result.err.splitlines()) == (2 if "--watch" in words else 4)
    if words[0] == "logs":
        assert result.out == "epoch 1\nepoch 2\nepoch 3\ntrained\n"


@pytest.mark.parametrize(
    "action",
    [
        Fault.status(429, retry_after=240),
        Fault.status(500),
        Fault.disconnect(0),
        Fault.disconnect(0, during="request"),
    ],
)
def test_other_transient_failures_are_waited_out_as_well(
    cli: Cli, kaggle: FakeKaggle, clock: Clock, held_session: Session, action: Fault
) -> None:
    held_session.status = "RUNNING"
    clock.after = lambda: complete(held_session)
    fail_requests(kaggle, clock, action)
    result = cli("runs", "wait")
    assert result.code == 0, result.err
    assert clock.now >= OUTAGE_S
    assert len(outage_lines(result.err)) == 2
    if "Retry-After" in action.headers:
        assert clock.slept == [240.0] * 3


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["wait"], 401, "Kaggle shows chex no kernel"),
        (["status", "--watch"], 403, "Kaggle shows chex no kernel"),
        (["logs", "-f"], 404, "Kaggle shows chex no kernel"),
    ],
)
def test_refusal_while_watching_ends_the_command_at_once(
    cli: Cli, kaggle: FakeKaggle, clock: Clock, held_session: Session, words: list[str], status: int, message: str
) -> None:
    held_session.status = "RUNNING"
    kaggle.faults.add("GetKernelSessionStatus|logs/stream", Fault.status(status), times=100)
    result = cli("runs", *words)
    assert result.code == 1
    assert message in result.err
    assert len(result.err.splitlines()) == 1
    assert clock.slept == []


def test_auto_resume_starts_the_next_session_once_after_an_outage(
    cli: Cli, kaggle: FakeKaggle, clock: Clock, held_session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chexvision_dispatch.targets.kaggle_sessions.POLLS", (0.0,))
    write_progress(held_session, "paused", stop_reason="time_budget", epoch=1)
    held_session.status = "COMPLETE"
    kaggle.held = False
    kaggle.faults.add("SaveKernel", Fault.status(503))
    fail_requests(kaggle, clock, Fault.status(503), first="SaveKernel")
    result = cli("runs", "wait", "--auto-resume")
    assert result.code == 0, result.err
    assert clock.now >= OUTAGE_S
    assert len(kaggle.sessions) == 2
    assert kaggle.sessions[1].request["kernelDataSources"] == [held_session.ref]


def test_auto_resume_that_is_refused_leaves_the_run_paused(
    cli: Cli, kaggle: FakeKaggle, clock: Clock, held_session: Session
) -> None:
    write_progress(held_session, "paused", stop_reason="time_budget", epoch=1)
    held_session.status = "COMPLETE"
    kaggle.gpu_time_used = kaggle.gpu_time_allowed
    result = cli("runs", "wait", "--auto-resume")
    assert result.code == 75, result.err
    assert "not resumed: Kaggle refused the push: Maximum weekly GPU quota" in result.err
    assert "next: chexvision runs resume" in result.err
    assert (len(kaggle.sessions), clock.slept) == (1, [])


@pytest.mark.parametrize("busy_s", [60.0, 1e6])
def test_auto_resume_waits_some_minutes_for_other_sessions_to_end(
    cli: Cli, kaggle: FakeKaggle, clock: Clock, held_session: Session, monkeypatch: pytest.MonkeyPatch, busy_s: float
) -> None:
    write_progress(held_session, "paused", stop_reason="time_budget", epoch=1)
    held_session.status = "COMPLETE"
    kaggle.held, kaggle.max_gpu_sessions = False, 0

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        kaggle.max_gpu_sessions = 2 if clock.now >= busy_s else 0

    monkeypatch.setattr(retry, "sleep", sleep)
    result = cli("runs", "wait", "--auto-resume")
    if busy_s < 100:
        assert result.code == 0, result.err
        assert len(kaggle.sessions) == 2
        assert busy_s <= clock.now < 2 * busy_s
    else:
        assert result.code == 75, result.err
        assert "not resumed: Kaggle refused the push: Maximum batch GPU session count" in result.err
        assert len(kaggle.sessions) == 1
        assert 300 < clock.now < 600


def test_unreadable_outcome_is_not_reported_as_complete(cli: Cli, kaggle: FakeKaggle, held_session: Session) -> None:
    """Kaggle reports COMPLETE for a paused session; the session's own status is in its output."""
    held_session.status = "COMPLETE"
    rule = kaggle.faults.add("ListKernelSessionOutput", Fault.status(503), times=100)
    refused = cli("runs", "status")
    assert refused.code == 1
    assert "Kaggle answered HTTP 503 (fault on demand) while sending the output" in refused.err
    rule.times = 0
    write_progress(held_session, "paused")
    assert json.loads(cli("runs", "status", "--json").out)["status"] == "paused"


def test_silent_connection_is_reopened_without_losing_lines(
    cli: Cli, kaggle: FakeKaggle, held_session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chexvision_dispatch.targets.kaggle_http.TIMEOUT", (5.0, 0.3))
    write_lines(held_session, "epoch 1\n", "epoch 2\n")
    held_session.status = "RUNNING"

    def continue_session(seconds: float) -> None:
        write_lines(held_session, "epoch 3\n")
        complete(held_session)

    monkeypatch.setattr(retry, "sleep", continue_session)
    result = cli("runs", "logs", "-f")
    assert result.code == 0, result.err
    assert result.out == "epoch 1\nepoch 2\nepoch 3\n"


@pytest.mark.parametrize(("status", "follow"), [("RUNNING", []), ("COMPLETE", []), ("RUNNING", ["-f"])])
def test_log_lines_are_complete_utf_8(
    cli: Cli,
    kaggle: FakeKaggle,
    held_session: Session,
    status: str,
    follow: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = ["▁▂▃▄▅▆▇█  0.51 … 0.53\n", "größer: ½ von 𝟙\n", "\n", "Ende\n"]  # ▅ has the byte 0x85, Latin-1's newline
    write_lines(held_session, *lines)
    held_session.status = status
    if follow:
        kaggle.faults.add("logs/stream", Fault.disconnect(280))
        monkeypatch.setattr(retry, "sleep", lambda seconds: complete(held_session))
    result = cli("runs", "logs", *follow)
    assert result.out == "".join(lines)
