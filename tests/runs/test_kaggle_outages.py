"""Watching a run through an outage: minutes of errors cost simulated seconds, one line, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from chexvision.hub import retry
from chexvision.hub.run_progress import RunProgress
from chexvision.provenance import now
from chexvision_dispatch import records
from tests.dispatch.standin import Cli
from tests.fakes.faults import Fault, Rule
from tests.fakes.kaggle import FakeKaggle
from tests.fakes.kaggle_session import Session
from tests.runs.conftest import DISPATCH, let

pytestmark = pytest.mark.usefixtures("packs_stand_in")
OUTAGE_S = 600.0
TO = ["--to", "chex/model"]


class Clock:
    """Simulated seconds: `sleep` passes them at once. `after` is called when an outage is over."""

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


@pytest.fixture
def session(cli: Cli, kaggle: FakeKaggle) -> Session:
    """A session that does not run: tests say what it wrote and how it ended."""
    kaggle.hold()
    result = cli(*DISPATCH, *TO)
    assert result.code == 0, result.err
    return kaggle.sessions[0]


def write_lines(session: Session, *lines: str) -> None:
    session.events += [{"stream_name": "stdout", "time": 0.0, "data": line} for line in lines]


def complete(session: Session) -> None:
    done = RunProgress(run_id=records.find(None).run_id, status="complete", session=1, updated_at=now())
    (session.working / "progress.json").write_text(done.to_json())
    session.status = "COMPLETE"


def strike(kaggle: FakeKaggle, clock: Clock, action: Fault, first: str = "GetKernelSessionStatus") -> Rule:
    """Every request fails for `OUTAGE_S` once the first one that contains `first` was answered."""
    seen: list[str] = []

    def struck(line: str) -> bool:
        strikes = bool(seen) and clock.now < OUTAGE_S
        if first in line:
            seen.append(line)
        return strikes

    return kaggle.faults.add(struck, action, times=100_000)


def outage_lines(err: str) -> list[str]:
    return [line for line in err.splitlines() if "Polling on until" in line or "answered again" in line]


@pytest.mark.parametrize("words", [["wait"], ["status", "--watch"], ["wait", "--auto-resume"], ["logs", "-f"]])
def test_ten_minutes_of_503_while_watching_are_one_line(
    cli: Cli, kaggle: FakeKaggle, clock: Clock, session: Session, words: list[str]
) -> None:
    write_lines(session, "epoch 1\n", "epoch 2\n", "epoch 3\n")
    session.status = "RUNNING"
    clock.after = lambda: (write_lines(session, "trained\n"), complete(session))
    kaggle.faults.add("logs/stream", Fault.cut(150))
    rule = strike(kaggle, clock, Fault.status(503))
    result = cli("runs", *words)
    assert result.code == 0, result.err
    assert OUTAGE_S <= clock.now < OUTAGE_S + 150
    assert 5 < rule.fired < 20  # with backoff
    told, over = outage_lines(result.err)
    assert "Kaggle answered HTTP 503" in told
    assert over.startswith("answered again after 1")
    assert len(result.err.splitlines()) == (2 if "--watch" in words else 4)
    if words[0] == "logs":
        assert result.out == "epoch 1\nepoch 2\nepoch 3\ntrained\n"


@pytest.mark.parametrize(
    "action", [Fault.status(429, retry_after=240), Fault.status(500), Fault.cut(0), Fault.cut(0, during="request")]
)
def test_other_transient_failures_are_waited_out_as_well(
    cli: Cli, kaggle: FakeKaggle, clock: Clock, session: Session, action: Fault
) -> None:
    session.status = "RUNNING"
    clock.after = lambda: complete(session)
    strike(kaggle, clock, action)
    result = cli("runs", "wait")
    assert result.code == 0, result.err
    assert clock.now >= OUTAGE_S
    assert len(outage_lines(result.err)) == 2
    if "Retry-After" in action.headers:
        assert clock.slept == [240.0] * 3


@pytest.mark.parametrize(
    ("status", "message"), [(401, "shows chex no kernel"), (403, "shows chex"), (404, "HTTP 404")]
)
@pytest.mark.parametrize("words", [["wait"], ["logs", "-f"]])
def test_refusal_while_watching_ends_it_at_once(
    cli: Cli, kaggle: FakeKaggle, clock: Clock, session: Session, words: list[str], status: int, message: str
) -> None:
    session.status = "RUNNING"
    kaggle.faults.add("GetKernelSessionStatus|logs/stream", Fault.status(status), times=100)
    result = cli("runs", *words)
    assert result.code == 1
    assert message in result.err
    assert len(result.err.splitlines()) == 1
    assert clock.slept == []
    session.status = "COMPLETE"


def test_auto_resume_starts_the_next_session_once_after_an_outage(
    cli: Cli, kaggle: FakeKaggle, clock: Clock, session: Session, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chexvision_dispatch.kaggle.LOOKS", (0.0,))
    paused = RunProgress(
        run_id=records.find(None).run_id,
        status="paused",
        stop_reason="time_budget",
        session=1,
        epoch=1,
        updated_at=now(),
        state=("state.pt",),
    )
    (session.working / "progress.json").write_text(paused.to_json())
    (session.working / "state.pt").write_text("[1]")
    session.status = "COMPLETE"
    kaggle.held = False
    let(gate, 2, 3)
    kaggle.faults.add("SaveKernel", Fault.status(503))
    strike(kaggle, clock, Fault.status(503), first="SaveKernel")
    result = cli("runs", "wait", "--auto-resume")
    assert result.code == 0, result.err
    assert clock.now >= OUTAGE_S
    assert len(kaggle.sessions) == 2
    assert kaggle.sessions[1].request["kernelDataSources"] == [session.ref]
    assert "epoch 1\n" not in kaggle.sessions[1].text


def test_outcome_that_cannot_be_read_yet_is_not_taken_for_complete(
    cli: Cli, kaggle: FakeKaggle, session: Session
) -> None:
    """Kaggle says COMPLETE of a session that paused; what the session said itself is in its output."""
    session.status = "COMPLETE"
    rule = kaggle.faults.add("ListKernelSessionOutput", Fault.status(503), times=100)
    refused = cli("runs", "status")
    assert refused.code == 1
    assert "Kaggle answered HTTP 503 while sending the output" in refused.err
    rule.times = 0
    paused = RunProgress(run_id=records.find(None).run_id, status="paused", session=1, updated_at=now())
    (session.working / "progress.json").write_text(paused.to_json())
    assert json.loads(cli("runs", "status", "--json").out)["status"] == "paused"


def test_connection_that_falls_silent_is_given_up_and_no_line_is_lost(
    cli: Cli, kaggle: FakeKaggle, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chexvision_dispatch.kaggle_http.TIMEOUT", (5.0, 0.3))
    write_lines(session, "epoch 1\n", "epoch 2\n")
    session.status = "RUNNING"

    def go_on(seconds: float) -> None:
        write_lines(session, "epoch 3\n")
        complete(session)

    monkeypatch.setattr(retry, "sleep", go_on)
    result = cli("runs", "logs", "-f")
    assert result.code == 0, result.err
    assert result.out == "epoch 1\nepoch 2\nepoch 3\n"


@pytest.mark.parametrize("status", ["RUNNING", "COMPLETE"])
@pytest.mark.parametrize("follow", [[], ["-f"]])
def test_log_is_whole_lines_of_utf_8(
    cli: Cli,
    kaggle: FakeKaggle,
    session: Session,
    status: str,
    follow: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = ["▁▂▃▄▅▆▇█  0.51 … 0.53\n", "größer: ½ von 𝟙\n", "\n", "Ende\n"]  # ▅ has the byte 0x85, Latin-1's newline
    write_lines(session, *lines)
    session.status = status
    if follow and status == "RUNNING":
        kaggle.faults.add("logs/stream", Fault.cut(280))
        monkeypatch.setattr(retry, "sleep", lambda seconds: complete(session))
    result = cli("runs", "logs", *follow)
    assert result.out == "".join(lines)
    session.status = "COMPLETE"
