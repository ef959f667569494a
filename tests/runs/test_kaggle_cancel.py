"""Ending a session on Kaggle, with and without a stop request."""

from __future__ import annotations

import json
import signal

import pytest

from chexvision.runs.branch import RunBranch
from chexvision.runs.run_progress import PROGRESS_FILE
from chexvision_dispatch import run_records as records
from chexvision_dispatch.view import kept_dir
from tests.dispatch.standin import RECORD, Cli
from tests.fakes.faults import Fault
from tests.fakes.hub import FakeHub
from tests.fakes.kaggle import FakeKaggle
from tests.fakes.kaggle_kernels import FIRST_SESSION_ID
from tests.fakes.kaggle_session import Session
from tests.runs.conftest import Typed, write_progress

BRANCH = f"run/{RECORD.run_id}"


def report(session: Session) -> None:
    """Upload progress of a training session to the run's branch."""
    session.status = "RUNNING"
    write_progress(session, "training", epoch=1, kaggle_session_id=FIRST_SESSION_ID + session.number)
    reported = (session.working / PROGRESS_FILE).read_bytes()
    RunBranch("chex/model", RECORD.run_id).send({PROGRESS_FILE: reported}, "Session 1")


@pytest.mark.parametrize("hub", ["read-only token", "down"])
def test_cancel_now_ends_a_session_even_if_no_stop_request_can_be_sent(
    cli: Cli, fake_hub: FakeHub, held_session: Session, monkeypatch: pytest.MonkeyPatch, hub: str
) -> None:
    report(held_session)
    assert json.loads(cli("runs", "status", "--json").out)["status"] == "running"
    if hub == "down":
        fake_hub.faults.add("", Fault.status(503), times=30)  # available again after the session was ended
    else:
        fake_hub.add_token("hf_reads", "read")
        monkeypatch.setenv("HF_TOKEN", "hf_reads")
    ended = cli("runs", "cancel", "--now", "--grace-minutes", "60")
    assert "; ending it without a stop request" in ended.err
    assert held_session.status == "CANCEL_ACKNOWLEDGED"
    assert ended.code == 0, ended.err
    assert f"{RECORD.run_id} is cancelled" in ended.err


def test_no_stop_request_is_sent_to_a_session_that_does_not_read_it(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, held_session: Session
) -> None:
    held_session.status = "RUNNING"
    refused = cli("runs", "cancel")
    assert refused.code == 1
    assert "its sessions have no Hub token to read one with" in refused.err
    assert f"end it on https://www.kaggle.com/code/{held_session.ref}" in refused.err
    assert ("model", "chex/model") not in fake_hub.repos

    # Its id is known if an earlier poll found it.
    write_progress(held_session, "training", kaggle_session_id=FIRST_SESSION_ID + 1)
    folder = kept_dir(records.find(None))
    folder.mkdir(parents=True)
    (held_session.working / PROGRESS_FILE).rename(folder / PROGRESS_FILE)
    ended = cli("runs", "cancel", "--now", "--grace-minutes", "60")
    assert ended.code == 0, ended.err
    assert held_session.status == "CANCEL_ACKNOWLEDGED"
    assert ("model", "chex/model") not in fake_hub.repos


def test_ctrl_c_during_cancel_reports_that_the_stop_request_stays(
    fake_hub: FakeHub, typed: Typed, held_session: Session
) -> None:
    report(held_session)
    ending = typed("runs", "cancel", "--now", "--grace-minutes", "60")
    assert ending.stderr is not None
    line = ending.stderr.readline()
    assert line.startswith(f"left a stop request on chex/model, branch {BRANCH}"), line + ending.communicate()[1]
    ending.send_signal(signal.SIGINT)
    _, err = ending.communicate()
    assert ending.returncode == 130
    assert f"detached; last step: left a stop request on chex/model, branch {BRANCH}" in err
    assert "the run continues" not in err
    assert "stop.json" in fake_hub.commits("chex/model", BRANCH)[0].files
