"""Studies on Kaggle with the real clients: two at a time, within the quota, resumed, never sent twice."""

from __future__ import annotations

import json
import re
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from chexvision_dispatch import run_records as records
from tests.dispatch.standin import Cli, raised
from tests.fakes.faults import Fault
from tests.fakes.hub import FakeHub
from tests.fakes.kaggle import FakeKaggle
from tests.runs.conftest import SHA, end_epochs, write_progress

pytestmark = pytest.mark.usefixtures("packs_stand_in")
ONE = "{recipe: densenet, preset: smoke}"
TWO = "{recipe: densenet, preset: smoke, variants: {focal: {loss.name: focal}}}"
THREE = (
    "{recipe: densenet, preset: smoke, variants: {focal: {loss.name: focal}, smooth: {loss.label_smoothing: 0.1}}}"
)


@pytest.fixture
def words() -> list[str]:
    Path("mine.yaml").write_text(THREE)
    return ["sweep", "mine.yaml", "--data", f"chex/xrays@{SHA}", "--to", "chex/study"]


def test_two_run_at_a_time_and_all_publish_to_one_repository(
    cli: Cli, words: list[str], kaggle: FakeKaggle, fake_hub: FakeHub, gate: Path
) -> None:
    started = cli(*words, "--detach")
    assert started.code == 75
    left = r"study mine is not finished: 2 queued, 1 waiting; \d\.\d GPU hours are to be sent"
    assert re.search(left, started.err)
    assert len(kaggle.sessions) == 2
    end_epochs(gate, 1, 2, 3)
    done = cli(*words)
    assert done.code == 0, done.err
    assert len(kaggle.sessions) == 3
    assert sorted(fake_hub.tags("chex/study")) == sorted(record.run_id for record in records.every(raised))
    published = {str(record.published) for record in records.every(raised)}
    assert published == {f"chex/study@{sha}" for sha in fake_hub.tags("chex/study").values()}


def test_used_up_quota_is_reported_and_the_study_continues_when_there_is_more(
    cli: Cli, words: list[str], kaggle: FakeKaggle, gate: Path
) -> None:
    Path("mine.yaml").write_text(TWO)
    end_epochs(gate, 1, 2, 3)
    kaggle.gpu_time_used = kaggle.gpu_time_allowed - timedelta(minutes=6)
    refused = cli(*words)
    assert refused.code == 75
    assert "base was not sent: Kaggle quota: 0.1 of 30 GPU hours left, refreshed" in refused.err
    assert "add --force (and 1 more)" in refused.err
    assert re.search(r"2 waiting; \d\.\d GPU hours are to be sent, quota: 0.1 of 30 GPU hours left", refused.err)
    assert kaggle.sessions == []
    assert records.every(raised) == []
    kaggle.gpu_time_used = timedelta()
    done = cli(*words)
    assert done.code == 0, done.err
    assert len(kaggle.sessions) == 2


def test_session_that_reaches_its_limit_is_resumed_at_once(
    cli: Cli, words: list[str], kaggle: FakeKaggle, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine.yaml").write_text(ONE)
    kaggle.hold()
    end_epochs(gate, 1, 2, 3)

    def reach_the_limit(seconds: float) -> None:
        time.sleep(seconds)
        first = kaggle.sessions[0]
        if first.status == "QUEUED":
            run_id = records.find(None).run_id
            (first.working / "state.pt").write_text("[1]")
            write_progress(first, "paused", run_id=run_id, stop_reason="time_budget", epoch=1, state=("state.pt",))
            first.status = "COMPLETE"
            kaggle.release()

    monkeypatch.setattr("chexvision_dispatch.studies.scheduler.time", SimpleNamespace(sleep=reach_the_limit))
    done = cli(*words)
    assert done.code == 0, done.err
    assert "base: session 2 of" in done.err
    assert [session.status for session in kaggle.sessions] == ["COMPLETE", "COMPLETE"]
    assert "epoch 1\n" not in kaggle.sessions[1].text


def test_push_whose_response_was_lost_is_not_repeated(
    cli: Cli, words: list[str], kaggle: FakeKaggle, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine.yaml").write_text(ONE)
    monkeypatch.setattr("chexvision_dispatch.targets.kaggle_sessions.POLLS", (0.0, 0.0))
    end_epochs(gate, 1, 2, 3)
    kaggle.faults.add("SaveKernel", Fault.lose_response())
    kaggle.faults.add("GetKernelSessionStatus", Fault.status(503), times=2)
    done = cli(*words)
    assert done.code == 0, done.err
    assert "base: Kaggle did not answer the push" in done.err
    assert len(kaggle.sessions) == len(records.every(raised)) == 1


def test_run_that_another_account_does_not_see_is_not_sent_again(
    cli: Cli, words: list[str], kaggle: FakeKaggle, gate: Path
) -> None:
    Path("mine.yaml").write_text(ONE)
    assert cli(*words, "--detach").code == 75
    kaggle.faults.add("GetKernelSessionStatus", Fault.status(403))
    (record,) = records.every(raised)
    unseen = cli(*words, "--retry-failed", "--detach")
    assert unseen.code == 75
    assert (
        f"not sent again, since it may run. If it is gone, remove {records.runs_dir() / record.run_id}" in unseen.err
    )
    assert len(kaggle.sessions) == len(records.every(raised)) == 1
    end_epochs(gate, 1, 2, 3)
    assert cli(*words, "--retry-failed").code == 0
    assert len(kaggle.sessions) == 1


def test_sessions_of_others_take_room_that_is_waited_for(
    cli: Cli, words: list[str], kaggle: FakeKaggle, gate: Path
) -> None:
    kaggle.max_gpu_sessions = 0
    busy = cli(*words, "--detach")
    assert busy.code == 75
    assert "base waits for room: Kaggle refused the push: Maximum batch GPU session count" in busy.err
    assert records.every(raised) == []


def test_credentials_that_are_refused_end_the_command(cli: Cli, words: list[str], kaggle: FakeKaggle) -> None:
    kaggle.token = "KGAT_another"
    refused = cli(*words)
    assert refused.code == 1
    assert refused.err.splitlines()[-1].startswith("error: Kaggle does not accept the token in KAGGLE_API_TOKEN")


def test_dry_run_compares_the_estimate_with_the_quota(cli: Cli, words: list[str], kaggle: FakeKaggle) -> None:
    shown = cli(*words, "--dry-run")
    assert shown.code == 0, shown.err
    assert re.search(r"^run    focal +about \d\.\d GPU hours \(", shown.out, re.MULTILINE)
    assert re.search(
        r"^total  \d\.\d GPU hours to be sent, quota: 30.0 of 30 GPU hours left", shown.out, re.MULTILINE
    )
    assert kaggle.sessions == []


def test_session_without_a_token_is_collected_and_published_from_here(
    cli: Cli, words: list[str], kaggle: FakeKaggle, fake_hub: FakeHub, gate: Path
) -> None:
    kaggle.session_secrets = {}
    Path("mine.yaml").write_text(ONE)
    end_epochs(gate, 1, 2, 3)
    done = cli(*words)
    assert done.code == 0, done.err
    (record,) = records.every(raised)
    assert list(fake_hub.tags("chex/study")) == [record.run_id]
    (row,) = json.loads(Path("runs/mine/study.json").read_text())["variants"]
    assert row["members"][0]["status"] == "complete"


def test_paid_job_whose_response_was_lost_is_not_started_again(
    cli: Cli, words: list[str], fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def polls(seconds: float) -> None:
        raise AssertionError("a second job was started")

    monkeypatch.setattr("chexvision_dispatch.studies.scheduler.time", SimpleNamespace(sleep=polls))
    Path("mine.yaml").write_text(ONE)
    fake_hub.faults.add(r"POST /api/jobs/chex", Fault.lose_response())
    for _ in range(2):
        lost = cli(*words, "--on", "hf-jobs")
        assert lost.code == 75
        assert "study mine is not finished: 1 unsent" in lost.err
        assert len(fake_hub.jobs) == 1
