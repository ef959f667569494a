"""Runs on Kaggle with the real clients: followed, interrupted, resumed, collected, published."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from chexvision_dispatch import run_records as records
from chexvision_dispatch.view import kept_dir
from tests.dispatch.standin import Cli
from tests.fakes.faults import Fault
from tests.fakes.hub import FakeHub
from tests.fakes.kaggle import FakeKaggle
from tests.runs.conftest import DISPATCH, Typed, end_epochs

pytestmark = pytest.mark.usefixtures("packs_stand_in")
TO = ["--to", "chex/model"]


def status(cli: Cli, *words: str) -> dict[str, Any]:
    result = cli("runs", "status", "--json", *words)
    assert result.code == 0, result.err
    found: dict[str, Any] = json.loads(result.out)
    return found


def test_complete_run_with_each_command_killed_midway(
    cli: Cli, typed: Typed, kaggle: FakeKaggle, fake_hub: FakeHub, gate: Path
) -> None:
    kaggle.hold()
    dispatched = typed(*DISPATCH, *TO, "--watch")
    assert dispatched.stdout is not None
    while not (line := dispatched.stdout.readline()).startswith("page"):
        assert line, dispatched.communicate()
    dispatched.kill()
    dispatched.communicate()
    assert status(cli)["status"] == "queued"
    kaggle.release()
    kaggle.sessions[0].wait_for_text("epoch 1\n")
    assert status(cli)["status"] == "running"
    end_epochs(gate, 1)
    following = typed("runs", "logs", "-f")
    assert following.stdout is not None
    while (line := following.stdout.readline()) != "epoch 2\n":
        assert line, following.communicate()
    following.kill()
    following.communicate()
    end_epochs(gate, 2, 3)
    waited = cli("runs", "wait")
    assert waited.code == 0, waited.err
    seen = status(cli)
    run_id = seen["run_id"]
    assert seen["status"] == "complete"
    assert [point["macro_auroc"] for point in seen["progress"]["points"]] == [0.51, 0.52, 0.53]
    assert fake_hub.tags("chex/model")[run_id] in seen["published"]
    assert len(fake_hub.commits("chex/model")) == 2  # the initial commit and the publication
    branch = fake_hub.commits("chex/model", f"run/{run_id}")
    assert "progress.json" in branch[0].files
    assert not any("state.pt" in commit.files for commit in branch)


def test_curve_and_progress_show_while_it_trains(cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, gate: Path) -> None:
    cli(*DISPATCH, *TO)
    end_epochs(gate, 1, 2)
    kaggle.sessions[0].wait_for_text("epoch 3\n")
    branch = f"run/{records.find(None).run_id}"
    while "state.pt" not in fake_hub.commits("chex/model", branch)[0].files or (
        json.loads(fake_hub.read("chex/model", "progress.json", branch))["epoch"] < 2
    ):
        assert not kaggle.sessions[0].done
    shown = cli("runs", "status").out
    assert "status running" in shown
    assert "epoch  2 of 3, about 1s left" in shown
    assert "best   macro AUROC 0.5200 in epoch 2" in shown
    assert "curve  ▁█  0.5100 … 0.5200" in shown
    end_epochs(gate, 3)
    kaggle.sessions[0].wait()


def test_logs_survive_a_dropped_stream_without_lost_or_duplicate_lines(
    cli: Cli, kaggle: FakeKaggle, gate: Path
) -> None:
    cli(*DISPATCH, *TO)
    end_epochs(gate, 1, 2, 3)
    kaggle.faults.add("logs/stream", Fault.disconnect(300), times=2)
    result = cli("runs", "logs", "-f")
    assert result.code == 0, result.err
    assert result.out == kaggle.sessions[0].text


def test_cancel_sends_a_stop_request_that_pauses_the_run_and_resume_removes_it(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, gate: Path
) -> None:
    cli(*DISPATCH, *TO)
    end_epochs(gate, 1)
    kaggle.sessions[0].wait_for_text("epoch 2\n")
    asked = cli("runs", "cancel")
    assert asked.code == 0
    run_id = records.find(None).run_id
    by_hand = f"end it on https://www.kaggle.com/code/{kaggle.sessions[0].ref}"
    assert f"To end it in any case: chexvision runs cancel {run_id} --now, or {by_hand}" in asked.out
    kaggle.sessions[0].wait()
    ended = cli("runs", "wait")
    assert ended.code == 75
    assert "is paused: it was asked to stop" in ended.err
    resumed = cli("runs", "resume")
    assert resumed.code == 0, resumed.err
    end_epochs(gate, 2, 3)
    second = kaggle.sessions[1].wait()
    assert second.request["text"] == kaggle.sessions[0].request["text"]
    assert second.request["kernelDataSources"] == [kaggle.sessions[0].ref]
    assert "epoch 1\n" not in second.text
    seen = status(cli)
    assert (seen["status"], seen["progress"]["session"]) == ("complete", 2)
    model = fake_hub.read("chex/model", "model.safetensors", seen["run_id"])
    assert json.loads(model)["learned"] == [1, 2, 3]


def test_killed_session_loses_only_the_current_epoch(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, gate: Path
) -> None:
    cli(*DISPATCH, *TO)
    end_epochs(gate, 1)
    session = kaggle.sessions[0]
    session.wait_for_text("epoch 2\n")
    branch = f"run/{records.find(None).run_id}"
    while "state.pt" not in fake_hub.commits("chex/model", branch)[0].files:
        assert not session.done
    session.kill(signal.SIGKILL)
    session.wait()
    failed = cli("runs", "wait")
    assert failed.code == 1
    assert f"next: chexvision runs resume {records.find(None).run_id}" in failed.err
    assert cli("runs", "resume").code == 0
    end_epochs(gate, 2, 3)
    assert kaggle.sessions[1].wait().status == "COMPLETE"
    assert kaggle.sessions[1].request.get("kernelDataSources", []) == []  # Kaggle would drop it
    assert "epoch 1\n" not in kaggle.sessions[1].text
    assert cli("runs", "wait").code == 0


def test_without_a_token_it_pauses_resumes_from_its_output_and_is_collected(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, gate: Path
) -> None:
    kaggle.session_secrets = {}
    cli(*DISPATCH, *TO, "--private", "--timeout-hours", "2")
    end_epochs(gate, 1)
    kaggle.sessions[0].wait_for_text("epoch 2\n")
    (gate / "late").touch()
    assert kaggle.sessions[0].wait().status == "COMPLETE"
    (gate / "late").unlink()
    paused = cli("runs", "wait")
    assert paused.code == 75
    assert "is paused: its time budget of 1.8 h was used up" in paused.err
    end_epochs(gate, 2, 3)
    resumed = cli("runs", "resume", "-f")
    assert resumed.code == 0, resumed.err
    assert "epoch 1\n" not in kaggle.sessions[1].text
    assert [commit.title for commit in fake_hub.commits("chex/model")] == ["initial commit"]
    run_id = records.find(None).run_id
    leftover = kept_dir(records.load(run_id)) / "artifact" / "figures" / "old.svg"
    leftover.parent.mkdir(parents=True)
    leftover.write_text("of an earlier collect")
    collected = cli("runs", "collect")
    assert collected.code == 0, collected.err
    assert "figures/old.svg" not in fake_hub.commits("chex/model")[0].files
    assert fake_hub.repos["model", "chex/model"].private
    assert json.loads(fake_hub.read("chex/model", "model.safetensors", run_id))["learned"] == [1, 2, 3]
    assert (
        f"chexvision predict chex/model@{run_id} chest.png"
        in fake_hub.read("chex/model", "README.md", run_id).decode()
    )
    assert list(fake_hub.tags("chex/model")) == [run_id]
    assert "published before" in cli("runs", "collect").out
    assert len(fake_hub.commits("chex/model")) == 2
    assert not any(record.leaked for record in [*kaggle.requests, *fake_hub.requests])
    assert not any(b"hf_right" in body.data for body in kaggle.bodies)


def test_altered_output_is_refused_and_nothing_is_published(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, gate: Path
) -> None:
    kaggle.session_secrets = {}
    cli(*DISPATCH, *TO)
    end_epochs(gate, 1, 2, 3)
    session = kaggle.sessions[0].wait()
    weights = session.working / "artifact" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    refused = cli("runs", "collect")
    assert refused.code == 1
    assert "model.safetensors differs from the session's output" in refused.err
    assert fake_hub.tags("chex/model") == {}


def test_truncated_output_is_fetched_again(cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, gate: Path) -> None:
    kaggle.session_secrets = {}
    cli(*DISPATCH, *TO)
    end_epochs(gate, 1, 2, 3)
    kaggle.sessions[0].wait()
    rule = kaggle.faults.add("GET /outputs/.*safetensors", Fault.disconnect(5), times=2)
    assert cli("runs", "collect").code == 0
    assert rule.fired == 2


def test_output_name_outside_its_folder_is_refused(cli: Cli, kaggle: FakeKaggle, gate: Path, tmp_path: Path) -> None:
    kaggle.session_secrets = {}
    cli(*DISPATCH, *TO)
    end_epochs(gate, 1, 2, 3)
    kaggle.sessions[0].wait().extra_files["artifact/../../../escaped"] = b"x"
    refused = cli("runs", "collect")
    assert "which is outside its folder" in refused.err
    assert list(tmp_path.rglob("escaped")) == []


def test_session_that_ends_before_it_can_report_is_explained_by_its_log(cli: Cli, kaggle: FakeKaggle) -> None:
    kaggle.session_secrets = {"HF_TOKEN": "hf_expired"}
    cli(*DISPATCH, *TO)
    waited = cli("runs", "wait")
    assert waited.code == 1
    (line,) = [line for line in waited.err.splitlines() if "is failed" in line]
    assert "Exited with code 1: the Hub does not accept the token" in line
    assert "https://huggingface.co/settings/tokens" in line


def test_auto_resume_starts_sessions_until_the_run_completes(cli: Cli, kaggle: FakeKaggle, gate: Path) -> None:
    kaggle.session_secrets, kaggle.nested_inputs = {}, False  # an output is found in the earlier mount layout, too
    cli(*DISPATCH, *TO)
    end_epochs(gate, 1)
    kaggle.sessions[0].wait_for_text("epoch 2\n")
    (gate / "late").touch()
    kaggle.sessions[0].wait()
    (gate / "late").unlink()
    end_epochs(gate, 2, 3)
    result = cli("runs", "wait", "--auto-resume")
    assert result.code == 0, result.err
    assert "session 2 of" in result.err
    assert len(kaggle.sessions) == 2


def test_auto_resume_ends_if_sessions_make_no_progress(cli: Cli, kaggle: FakeKaggle, gate: Path) -> None:
    (gate / "late").touch()
    cli(*DISPATCH, *TO)
    result = cli("runs", "wait", "--auto-resume")
    assert result.code == 75, result.err
    assert "3 sessions in a row ended no epoch" in result.err
    assert len(kaggle.sessions) == 3


def test_push_with_a_lost_response_is_found_by_resume_and_not_repeated(
    cli: Cli, kaggle: FakeKaggle, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chexvision_dispatch.targets.kaggle_sessions.POLLS", (0.0, 0.0))
    kaggle.faults.add("SaveKernel", Fault.lose_response())
    kaggle.faults.add("GetKernelSessionStatus", Fault.status(503), times=2)
    assert cli(*DISPATCH, *TO).code == 1
    assert "status unsent" in cli("runs", "status").out
    assert cli("runs", "resume").code == 0
    assert len(kaggle.sessions) == 1
    end_epochs(gate, 1, 2, 3)
    assert cli("runs", "wait").code == 0


def test_unpublished_artifact_is_reported_and_collected_later(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, gate: Path
) -> None:
    rule = fake_hub.faults.add(r"POST /api/models/chex/model/commit/main", Fault.status(400), times=99)
    cli(*DISPATCH, *TO)
    end_epochs(gate, 1, 2, 3)
    assert kaggle.sessions[0].wait().exit_code == 3
    waited = cli("runs", "wait")
    assert waited.code == 3
    run_id = records.find(None).run_id
    assert f"{run_id} is unpublished" in waited.err
    assert f"next: chexvision runs collect {run_id}" in waited.err
    assert fake_hub.tags("chex/model") == {}
    rule.times = 0
    assert "state.pt" in fake_hub.commits("chex/model", f"run/{run_id}")[0].files
    assert cli("runs", "collect").code == 0
    assert list(fake_hub.tags("chex/model")) == [run_id]
    seen = status(cli)
    published = f"chex/model@{fake_hub.tags('chex/model')[run_id]}"
    assert (seen["status"], seen["published"], seen["progress"]["published"]) == ("complete", published, published)
    assert cli("runs", "wait").code == 0
    assert f"{run_id} " in cli("runs", "list").out
    branch = fake_hub.commits("chex/model", f"run/{run_id}")
    assert json.loads(branch[0].files["progress.json"])["published"] == published
    assert not any("state.pt" in commit.files for commit in branch)
    assert fake_hub.stored_bytes("chex/model") == len(fake_hub.read("chex/model", "model.safetensors"))
