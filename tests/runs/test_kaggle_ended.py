"""Sessions on Kaggle that were killed or cancelled, and the state that the next one resumes."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chexvision.errors import ChexError
from chexvision.runs.branch import RunBranch
from chexvision.runs.run_progress import PROGRESS_FILE, RunProgress
from chexvision_dispatch import run_records as records
from chexvision_dispatch.targets.kaggle import Kaggle, KaggleOptions
from chexvision_dispatch.view import poll
from tests.dispatch.standin import RECORD, Cli
from tests.fakes.faults import Fault
from tests.fakes.hub import FakeHub
from tests.fakes.kaggle import FakeKaggle
from tests.fakes.kaggle_kernels import FIRST_SESSION_ID
from tests.fakes.kaggle_session import Session
from tests.runs.conftest import DISPATCH, end_epochs, write_progress

pytestmark = pytest.mark.usefixtures("packs_stand_in")
TO = ["--to", "chex/model"]


def kill(session: Session) -> None:
    session.kill(signal.SIGKILL)
    assert session.wait().status == "ERROR"


def wait_for_state(fake_hub: FakeHub, session: Session) -> None:
    """Wait until the state of the first epoch is on the run's branch."""
    branch = f"run/{records.find(None).run_id}"
    while "state.pt" not in fake_hub.commits("chex/model", branch)[0].files:
        assert not session.done


def test_state_in_the_output_of_a_killed_session_is_refused_collected_and_resumed(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, gate: Path
) -> None:
    """Without a Hub token the state is only in the output, and Kaggle does not attach the output of an ERROR."""
    kaggle.session_secrets = {}
    cli(*DISPATCH, *TO)
    end_epochs(gate, 1)
    kaggle.sessions[0].wait_for_text("epoch 2\n")
    kill(kaggle.sessions[0])
    run_id = records.find(None).run_id
    failed = cli("runs", "wait")
    assert failed.code == 1
    assert f"next: chexvision runs collect {run_id}, which downloads its state" in failed.err

    refused = cli("runs", "resume")
    assert refused.code == 1
    assert len(refused.err.splitlines()) == 1
    assert "the state after epoch 1 is only in the output of the session that failed" in refused.err
    assert "(chexvision credentials sync)" in refused.err
    assert f"chexvision runs collect {run_id}" in refused.err
    assert len(kaggle.sessions) == 1

    collected = cli("runs", "collect")
    assert collected.code == 0, collected.err
    folder = records.runs_dir() / run_id / "output"
    assert f"state  after epoch 1, in {folder}" in collected.out
    assert "no session reaches it: its sessions have no Hub token" in collected.out
    assert (folder / "state.pt").read_text() == "[1]"
    assert list(fake_hub.branches("chex/model")) == ["main"]

    assert cli("credentials", "sync", "--yes").code == 0
    resumed = cli("runs", "resume")
    assert resumed.code == 0, resumed.err
    assert (
        "continuing from the state after epoch 1, copied from the session's output to the run's branch" in resumed.out
    )
    end_epochs(gate, 2, 3)
    second = kaggle.sessions[1].wait()
    assert (second.status, "epoch 1\n" in second.text) == ("COMPLETE", False), second.text
    assert json.loads(fake_hub.read("chex/model", "model.safetensors", run_id))["learned"] == [1, 2, 3]
    assert not any(record.leaked for record in [*kaggle.requests, *fake_hub.requests])


@pytest.mark.parametrize("epoch", [1, 2])
def test_state_of_an_earlier_session_is_resumed(
    cli: Cli, kaggle: FakeKaggle, held_session: Session, epoch: int
) -> None:
    """No session has a Hub token; the second one was given the state of the first, and failed after epoch `epoch`."""
    write_progress(held_session, "paused", epoch=1, state=("state.pt",))
    held_session.status = "COMPLETE"
    assert cli("runs", "resume").code == 0
    second = kaggle.sessions[1]
    write_progress(second, "training", epoch=epoch, state=("state.pt",))
    (second.working / "state.pt").write_text("[1, 2]")
    second.status = "ERROR"
    hint = cli("runs", "status").out.splitlines()[-1]
    resumed = cli("runs", "resume")
    if epoch == 2:
        assert hint == f"next   chexvision runs collect {RECORD.run_id}, which downloads its state"
        assert "the state after epoch 2 is only in the output of the session that failed" in resumed.err
        assert len(kaggle.sessions) == 2
        return
    assert hint == f"next   chexvision runs resume {RECORD.run_id}"
    assert resumed.code == 0, resumed.err
    assert "continuing from the state after epoch 1, in the output of an earlier session" in resumed.out
    assert kaggle.sessions[2].request["kernelDataSources"] == [held_session.ref]


def test_output_ahead_of_the_branch_is_uploaded_to_it(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, gate: Path
) -> None:
    cli(*DISPATCH, *TO)
    end_epochs(gate, 1)
    kaggle.sessions[0].wait_for_text("epoch 2\n")
    wait_for_state(fake_hub, kaggle.sessions[0])
    rule = fake_hub.faults.add("POST /api/models/chex/model/commit/run", Fault.status(400), times=99)
    end_epochs(gate, 2)
    kaggle.sessions[0].wait_for_text("epoch 3\n")
    kill(kaggle.sessions[0])
    rule.times = 0
    collected = cli("runs", "collect")
    assert "state  after epoch 2, copied from the session's output to the run's branch" in collected.out
    assert f"next   chexvision runs resume {records.find(None).run_id}" in collected.out
    resumed = cli("runs", "resume")
    assert "note   continuing from the state after epoch 2, on the run's branch" in resumed.out
    end_epochs(gate, 3)
    assert kaggle.sessions[1].wait().status == "COMPLETE"
    assert "epoch 2\n" not in kaggle.sessions[1].text


def test_session_that_kaggle_started_without_a_source_is_recorded(
    cli: Cli, kaggle: FakeKaggle, held_session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_progress(held_session, "paused", epoch=1, state=("state.pt",))
    held_session.status = "COMPLETE"
    monkeypatch.setattr(kaggle, "_completed", lambda ref: None)
    result = cli("runs", "resume")
    assert result.code == 1
    assert f"started the session without {held_session.ref}" in result.err
    assert "end it with `chexvision runs cancel --now`" in result.err
    assert [one.handle for one in records.find(None).sessions] == [one.ref for one in kaggle.sessions]
    assert "session 2" in cli("runs", "status").out


def test_session_of_another_account_is_not_attached(cli: Cli, kaggle: FakeKaggle, held_session: Session) -> None:
    """Kaggle drops the outputs of other accounts, public run logs show."""
    target = Kaggle(KaggleOptions(timeout_hours=1))
    (own,) = records.find(None).sessions
    held_session.status = "COMPLETE"
    assert target.passes_files_on(own)
    assert not target.passes_files_on(records.Session(own.started_at, own.handle.replace("chex/", "other/", 1)))


def test_lost_state_is_reported_before_the_run_restarts(cli: Cli, kaggle: FakeKaggle, held_session: Session) -> None:
    write_progress(held_session, "training", epoch=4, state=("state.pt",))
    held_session.status = "ERROR"
    assert cli("runs", "wait").code == 1  # reads the session's progress
    (held_session.working / "progress.json").unlink()
    result = cli("runs", "resume")
    assert result.code == 1
    assert "nothing is left of the state" in result.err
    assert "saved after epoch 4" in result.err
    assert len(kaggle.sessions) == 1


def test_cancel_now_waits_for_a_session_that_ends_by_itself(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, gate: Path
) -> None:
    cli(*DISPATCH, *TO)
    end_epochs(gate, 1)
    kaggle.sessions[0].wait_for_text("epoch 2\n")
    ended = cli("runs", "cancel", "--now")
    assert ended.code == 0, ended.err
    assert "left a stop request on chex/model" in ended.err
    assert "is paused: it was asked to stop" in ended.err
    assert kaggle.sessions[0].status == "COMPLETE"
    assert not any("CancelKernelSession" in request.path for request in kaggle.requests)


def test_cancel_now_ends_a_session_that_does_not_stop_by_itself(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, gate: Path
) -> None:
    kaggle.session_env["CHEXVISION_POLL_SECONDS"] = "3600"
    cli(*DISPATCH, *TO)
    end_epochs(gate, 1)
    kaggle.sessions[0].wait_for_text("epoch 2\n")
    wait_for_state(fake_hub, kaggle.sessions[0])
    ended = cli("runs", "cancel", "--now", "--grace-minutes", "0")
    assert ended.code == 0, ended.err
    assert "ending it now; what it did since it last saved its state is lost" in ended.err
    run_id = records.find(None).run_id
    assert f"{run_id} is cancelled" in ended.err
    assert f"next: chexvision runs resume {run_id}" in ended.err
    assert kaggle.sessions[0].status == "CANCEL_ACKNOWLEDGED"
    assert "nothing to end" in cli("runs", "cancel", "--now").err

    resumed = cli("runs", "resume")
    assert resumed.code == 0, resumed.err
    assert kaggle.sessions[1].request.get("kernelDataSources", []) == []
    end_epochs(gate, 2, 3)
    assert kaggle.sessions[1].wait().status == "COMPLETE"
    assert "epoch 1\n" not in kaggle.sessions[1].text


def test_cancel_now_names_the_page_of_a_session_with_an_unknown_id(
    cli: Cli, kaggle: FakeKaggle, held_session: Session
) -> None:
    held_session.status = "RUNNING"
    refused = cli("runs", "cancel", "--now", "--grace-minutes", "0")
    assert refused.code == 1
    assert "the id of the session is not known" in refused.err
    assert f"end it on https://www.kaggle.com/code/{held_session.ref}" in refused.err


def test_refused_cancel_now_quotes_kaggle(held_session: Session) -> None:
    target = Kaggle(KaggleOptions(timeout_hours=1))
    (session,) = records.find(None).sessions
    with pytest.raises(Exception, match=r"does not end session 7: Permission 'kernelSessions\.cancel' was denied"):
        target.kill(session, 7)
    other = records.Session(session.started_at, "other/run", "https://www.kaggle.com/code/other/run")
    with pytest.raises(Exception, match="started by another account than chex"):
        target.kill(other, 7)


def test_grace_without_now_is_refused(cli: Cli, kaggle: FakeKaggle) -> None:
    for words in (["--grace-minutes", "1"], ["--now", "--grace-minutes", "-1"], ["--now", "--grace-minutes", "nan"]):
        refused = cli("runs", "cancel", *words)
        assert refused.code == 2
        assert "must be 0 or more, and goes with --now" in refused.err


def test_auto_resume_uses_the_reason_code_and_not_the_message(
    cli: Cli, kaggle: FakeKaggle, held_session: Session
) -> None:
    write_progress(held_session, "paused", stop_reason="stop_requested", note="its time budget was used up")
    held_session.status = "COMPLETE"
    assert cli("runs", "wait", "--auto-resume").code == 75
    assert len(kaggle.sessions) == 1


@pytest.mark.parametrize(
    ("progress", "lines", "following"),
    [
        ({"status": "failed", "stop_reason": "error", "note": "the split has no image"}, (), "fix that and dispatch"),
        ({"status": "failed", "stop_reason": "transient_error", "note": "HTTP 503"}, (), "chexvision runs resume"),
        (
            {"status": "failed", "stop_reason": "not_allowed", "note": "403"},
            (),
            "once that is fixed: chexvision runs r",
        ),
        ({"status": "failed", "stop_reason": "error", "state": ("state.pt",)}, (), "chexvision runs collect"),
        ({"status": "training"}, (), "chexvision runs resume"),  # killed before the first epoch ended
        (None, ("error: no GPU\n",), "once that is fixed: chexvision runs resume"),
        (None, ("Segmentation fault\n",), "chexvision runs resume"),
    ],
)
def test_resume_is_suggested_for_resumable_runs(
    cli: Cli, held_session: Session, progress: dict[str, Any] | None, lines: tuple[str, ...], following: str
) -> None:
    session = held_session
    if progress is not None:
        write_progress(session, **progress)
    session.events += [{"stream_name": "stderr", "time": 0.0, "data": line} for line in lines]
    session.status = "ERROR"
    (shown,) = [line for line in cli("runs", "status").out.splitlines() if line.startswith("next ")]
    assert shown.startswith(f"next   {following}")


def test_collect_is_suggested_if_the_state_cannot_be_attached(cli: Cli, held_session: Session) -> None:
    records.update(RECORD.run_id, lambda known: replace(known, to=None))
    write_progress(held_session, "training", epoch=2, state=("state.pt",))
    (held_session.working / "state.pt").write_text("[1, 2]")
    held_session.status = "ERROR"
    run_id = records.find(None).run_id
    assert f"next   chexvision runs collect {run_id}, which downloads its state" in cli("runs", "status").out
    assert "the run publishes to no Hub repository" in cli("runs", "resume").err
    collected = cli("runs", "collect")
    assert collected.code == 0
    assert f"state  after epoch 2, in {records.runs_dir() / run_id / 'output'}" in collected.out


def add_earlier_session(handle: str) -> None:
    """Add a paused session before the run's last one."""
    earlier = records.Session("2026-01-01T14:32:00+00:00", handle, outcome="paused")
    records.update(RECORD.run_id, lambda known: replace(known, sessions=(earlier, *known.sessions)))


def test_run_is_resumed_although_the_kernel_of_an_earlier_session_was_deleted(
    cli: Cli, kaggle: FakeKaggle, held_session: Session
) -> None:
    add_earlier_session("chex/deleted")
    write_progress(held_session, "training")
    held_session.status = "ERROR"
    resumed = cli("runs", "resume")
    assert resumed.code == 0, resumed.err
    assert kaggle.sessions[1].request.get("kernelDataSources", []) == []


def test_outage_is_not_mistaken_for_a_deleted_kernel(kaggle: FakeKaggle, held_session: Session) -> None:
    target = Kaggle(KaggleOptions(timeout_hours=1))
    (session,) = records.find(None).sessions
    kaggle.faults.add("GetKernelSessionStatus", Fault.status(503), times=3)
    with pytest.raises(ChexError, match="HTTP 503"):
        target.passes_files_on(session)
    held_session.ref = "chex/deleted"
    with pytest.raises(ChexError, match=r"shows chex no kernel \S+: it was deleted or is another user's$"):
        target.state(session)


def test_refused_push_is_not_mistaken_for_a_successful_one(
    cli: Cli, kaggle: FakeKaggle, held_session: Session
) -> None:
    """Kaggle refuses the title because another kernel has it, which resume then finds."""
    write_progress(held_session, "paused")
    held_session.status = "COMPLETE"
    title = f"session-2-{RECORD.run_id}"
    kaggle.sessions.append(replace(held_session, ref=f"chex/{title}", number=2))
    kaggle.taken_titles = frozenset({title})
    for _ in range(2):
        refused = cli("runs", "resume")
        assert (refused.code, "the kernel's name is taken" in refused.err) == (1, True)
    assert len(records.find(None).sessions) == 1


def test_id_of_the_previous_session_is_not_mistaken_for_the_current_one(held_session: Session) -> None:
    """With a slow local clock, progress of the previous session seems newer than the start of the last one."""
    add_earlier_session("chex/deleted")
    session_id = FIRST_SESSION_ID + 1
    for number, known in ((1, None), (2, session_id)):
        reported = RunProgress(
            run_id=RECORD.run_id, status="training", session=number, updated_at="2999-01-01T00:00:00Z"
        )
        reported = reported.model_copy(update={"kaggle_session_id": session_id})
        RunBranch("chex/model", RECORD.run_id).send({PROGRESS_FILE: reported.to_json().encode()}, f"Session {number}")
        assert poll(records.find(None)).kaggle_session_id == known
