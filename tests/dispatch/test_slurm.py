"""`--on slurm`: the same script as a batch job, which is requeued at its time limit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from chexvision.errors import ChexError
from chexvision.hub.retry import is_transient
from chexvision.layout import shared_dir
from chexvision_dispatch import run_records as records
from chexvision_dispatch.run_records import Session
from chexvision_dispatch.targets.slurm import Slurm, SlurmOptions
from tests.dispatch.standin import Cli
from tests.fakes.slurm import FakeSlurm

pytestmark = pytest.mark.usefixtures("packs_stand_in")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlurm]:
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{fake.bin}{os.pathsep}{os.environ['PATH']}")
    yield fake
    fake.stop()


@pytest.fixture
def words(shards: Path) -> list[str]:
    return ["dispatch", "--model", "densenet", "--on", "slurm", "--data", str(shards), "--run-dir", "run"]


@pytest.fixture
def target(tmp_path: Path) -> Slurm:
    (tmp_path / "run").mkdir()
    return Slurm(SlurmOptions(run_dir=tmp_path / "run"))


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.01)
    pytest.fail(log_of_job() if Path("run/slurm").exists() else "it did not happen")


def log_of_job() -> str:
    return "".join(path.read_bytes().decode() for path in sorted(Path("run/slurm").glob("*.out")))


def has_ended(fake: FakeSlurm) -> bool:
    return fake.jobs[0]["state"] in ("COMPLETED", "FAILED", "CANCELLED")


def only_record() -> records.RunRecord:
    (path,) = records.runs_dir().glob("*.json")
    return records.load(path.stem)


def progress() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("run/working/progress.json").read_text())
    return found


def learned() -> list[int]:
    return list(json.loads(Path("run/working/artifact/config.json").read_text())["learned"])


def test_submitit_does_not_close_the_log_of_the_program() -> None:
    script = (
        "import logging, sys, chexvision_dispatch.targets.slurm\n"
        "class Log(logging.Handler):\n"
        "    def close(self): sys.exit('closed')\n"
        "log = Log()\n"
        "import submitit\n"
        "log.close = lambda: None\n"  # at the end of the program it may
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_job_asks_for_its_resources_and_leaves_artifact_log_and_record(
    cli: Cli, words: list[str], slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_mine")
    options = ["--partition", "gpu", "--account", "chest", "--gpus", "4", "--cpus", "16", "--memory-gb", "63.5"]
    result = cli(*words, *options, "--timeout-hours", "2", "--setup", "export FROM_SETUP=1")
    assert result.code == 0, result.err
    wait_for(lambda: has_ended(slurm))
    (job,) = slurm.jobs
    assert (job["state"], job["name"]) == ("COMPLETED", only_record().run_id)
    asked = job["options"]
    assert (asked["partition"], asked["account"], asked["mem"], asked["nodes"]) == ("gpu", "chest", "65024MB", "1")
    assert (asked["gpus-per-node"], asked["cpus-per-task"], asked["time"]) == ("4", "16", "120")
    assert (asked["signal"], asked["open-mode"]) == ("USR2@720", "append")  # a tenth of two hours
    assert "requeue" in asked
    seen = json.loads(Path("run/working/artifact/seen.json").read_text())
    assert "KAGGLE_API_TOKEN" not in seen["environment"]
    assert "FROM_SETUP" in seen["environment"]
    assert cli("runs", "logs").out == log_of_job()
    assert "trained\n" in log_of_job()
    assert "--export=ALL" in (slurm.root / "asked.txt").read_text()
    assert cli("runs", "wait").code == 0
    assert only_record().sessions[0].exit_code == 0


def test_exit_code_of_the_script_is_recorded_and_its_last_lines_are_shown(
    cli: Cli, words: list[str], slurm: FakeSlurm
) -> None:
    cli(*words, "--set", "training.seed=7")
    wait_for(lambda: has_ended(slurm))
    status = cli("runs", "status")
    assert "trained" in status.out
    assert only_record().sessions[0].exit_code == 7


def test_job_that_is_cut_off_saves_its_state_and_continues_after_a_requeue(
    cli: Cli, words: list[str], slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    (gate / "1").touch()
    monkeypatch.setenv("STANDIN_EPOCHS", "3")
    monkeypatch.setenv("STANDIN_GATE", str(gate))
    cli(*words)
    wait_for(lambda: "epoch 2\n" in log_of_job())
    slurm.signal(signal.SIGUSR2, descendants=True)  # the time limit
    wait_for(lambda: log_of_job().count("epoch 2\n") == 2)
    assert slurm.jobs[0]["runs"] == 2
    assert "running" in cli("runs", "status").out
    (gate / "2").touch()
    wait_for(lambda: "epoch 3\n" in log_of_job())
    slurm.signal(signal.SIGTERM)  # a preemption with a grace time
    (gate / "3").touch()
    wait_for(lambda: has_ended(slurm))
    assert cli("runs", "wait").code == 0
    assert learned() == [1, 2, 3]
    assert log_of_job().count("epoch 1\n") == 1  # it did not begin again
    assert progress()["session"] in (2, 3)  # 2 where the last epoch ended before the signal was seen
    assert len(only_record().sessions) == 1


def test_cancelled_run_saves_its_state_and_is_not_requeued(
    cli: Cli, words: list[str], slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STANDIN_EPOCHS", "3")
    monkeypatch.setenv("STANDIN_GATE", str(tmp_path))
    cli(*words)
    wait_for(lambda: "epoch 1\n" in log_of_job())
    assert "asked slurm to end it" in cli("runs", "cancel").out
    wait_for(lambda: has_ended(slurm))
    assert slurm.jobs[0]["runs"] == 1
    assert cli("runs", "wait").code == 75
    for number in "123":
        (tmp_path / number).touch()
    assert cli("runs", "resume").code == 0
    wait_for(lambda: len(slurm.jobs) == 2 and slurm.jobs[1]["state"] == "COMPLETED")
    assert learned() == [1, 2, 3]


def test_job_whose_script_does_not_end_in_time_is_requeued_before_its_limit(slurm: FakeSlurm, tmp_path: Path) -> None:
    script, asked = tmp_path / "script.py", slurm.root / "asked.txt"
    script.write_text(  # as the evaluation after the last epoch, which a signal does not end
        "import signal, time\n"
        "from pathlib import Path\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "print('evaluating', flush=True)\n"
        f"while 'scontrol requeue 1' not in Path({str(asked)!r}).read_text(): time.sleep(0.01)\n"
        "while True: signal.pause()\n"
    )
    asked.touch()
    (slurm.root / "jobs" / "1.json").write_text(
        json.dumps({"id": 1, "name": "run", "state": "RUNNING", "task": None})
    )
    command = [sys.executable, str(shared_dir("kernels") / "slurm_job.py"), str(tmp_path / "run"), str(script), "0.1"]
    with subprocess.Popen(
        command, env={**os.environ, "SLURM_JOB_ID": "1"}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "evaluating\n"
        process.send_signal(signal.SIGUSR2)
        assert process.stdout.readline() == "requeued job 1: it continues from the saved state\n"
        assert process.poll() is None  # Slurm ends it
        psutil.Process(process.pid).children()[0].kill()
    assert process.returncode == 128 + signal.SIGKILL


def test_setup_that_fails_ends_the_job(cli: Cli, words: list[str], slurm: FakeSlurm) -> None:
    cli(*words, "--setup", "echo loading; false")
    wait_for(lambda: has_ended(slurm))
    assert log_of_job() == "loading\nerror: --setup failed with exit code 1\n"
    assert "failed: the job failed: --setup failed with exit code 1" in cli("runs", "status").out


def test_job_that_slurm_ends_itself_is_not_requeued(
    cli: Cli, words: list[str], slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STANDIN_EPOCHS", "3")
    monkeypatch.setenv("STANDIN_GATE", str(tmp_path))
    cli(*words)
    wait_for(lambda: "epoch 1\n" in log_of_job())
    target = Slurm(SlurmOptions(run_dir=Path("run").resolve()))
    target.kill(only_record().sessions[0], None)  # the user's own scancel does the same
    wait_for(lambda: "not requeued from here: job 1 is COMPLETING" in log_of_job())
    assert "scontrol requeue" not in (slurm.root / "asked.txt").read_text()


def test_job_that_waits_is_removed_from_the_queue(cli: Cli, words: list[str], slurm: FakeSlurm) -> None:
    (slurm.root / "hold").touch()
    cli(*words)
    status = cli("runs", "status")
    assert "queued" in status.out
    assert "pending: Resources" in status.out
    assert cli("runs", "logs").out == ""
    cli("runs", "cancel")
    assert slurm.jobs[0]["state"] == "CANCELLED"
    assert cli("runs", "wait").code == 130


def test_what_sbatch_refuses_is_quoted_and_leaves_no_run(cli: Cli, words: list[str], slurm: FakeSlurm) -> None:
    slurm.answer("sbatch", 1, err="sbatch: error: Batch job submission failed: Invalid \x1b[31mpartition\n")
    result = cli(*words)
    assert result.code == 1
    assert (
        result.err == "error: Slurm did not accept the job: Batch job submission failed: Invalid \\x1b[31mpartition\n"
    )
    assert not [*records.runs_dir().glob("*.json")]


def test_job_whose_submission_was_not_answered_is_found_by_its_name(
    cli: Cli, words: list[str], slurm: FakeSlurm
) -> None:
    (slurm.root / "hold").touch()
    (slurm.root / "loses-answers").touch()
    result = cli(*words)
    assert result.code == 0, result.err
    assert [session.handle for session in only_record().sessions] == ["1"]
    assert len(slurm.jobs) == 1


def test_dispatch_without_slurm_names_the_command_that_is_missing(
    cli: Cli, words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # the machine may have Slurm
    result = cli(*words)
    assert result.code == 1
    assert result.err == "error: no sbatch on this machine; dispatch from a login node of the cluster\n"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--partition", "gpu\nrm -rf", "--partition 'gpu\\nrm -rf' is not a name that Slurm has"),
        ("--memory-gb", "0", "--memory-gb 0 must be above 0"),
        ("--timeout-hours", "0", "--timeout-hours 0 must be above 0 and at most 8760"),
        ("--max-hours", "3", "--max-hours is for --on local; with --on slurm it follows from --timeout-hours"),
        ("--run-dir", "%j", "contains what Slurm replaces in names; name another folder"),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_line(
    cli: Cli, words: list[str], slurm: FakeSlurm, option: str, value: str, message: str
) -> None:
    result = cli(*words, option, value)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert message in result.err
    assert not slurm.jobs


@pytest.mark.parametrize(
    ("queue", "accounting", "phase", "message"),
    [
        ("PENDING|QOSMaxJobsPerUserLimit\n", "", "queued", "pending: QOSMaxJobsPerUserLimit"),
        ("PENDING|PartitionTimeLimit\n", "", "queued", "will not start: cancel it, and dispatch within the limits"),
        ("REQUEUED|None\n", "", "queued", "requeued"),
        ("COMPLETING|None\n", "", "running", ""),
        ("OUT_OF_MEMORY|None\n", "", "error", "dispatch again with more --memory-gb"),
        (None, "JobID|State\n7|NODE_FAIL\n7.batch|CANCELLED\n", "error", "a node failed"),
        (None, "JobID|State\n7|CANCELLED by 1000\n", "cancelled", ""),
        (None, "JobID|State\n7|PREEMPTED\n7.0|PREEMPTED\n", "error", "preempted and not requeued"),
        (None, "JobID|State\n7|TIMEOUT\n", "error", "raise --timeout-hours"),
        (None, "JobID|State\n", "cancelled", "left the queue before it started"),
    ],
)
def test_states_of_a_job(
    target: Slurm, slurm: FakeSlurm, queue: str | None, accounting: str, phase: str, message: str
) -> None:
    if queue is None:
        slurm.answer("squeue", 1, err="slurm_load_jobs error: Invalid job id specified\n")
    else:
        slurm.answer("squeue", 0, queue)
    slurm.answer("sacct", 0, accounting)
    state = target.state(Session("2026-01-01T00:00:00+00:00", "7"))
    assert state.phase == phase
    assert message in state.message


def test_end_of_a_job_that_the_accounting_does_not_know_yet_is_asked_for_again(
    target: Slurm, slurm: FakeSlurm, tmp_path: Path
) -> None:
    session = Session("2026-01-01T00:00:00+00:00", "7")
    slurm.answer("squeue", 1, err="slurm_load_jobs error: Invalid job id specified\n")
    (tmp_path / "run" / "slurm").mkdir()
    (tmp_path / "run" / "slurm" / "7_0_log.out").touch()
    with pytest.raises(ChexError, match="no record of job 7 yet") as raised:
        target.state(session)
    assert is_transient(raised.value)
    slurm.answer("sacct", 1, err="Slurm accounting storage is disabled\n")
    (tmp_path / "run" / "exit-code").write_text("0")
    assert target.state(session).phase == "complete"
    # The exit code is that of the job with the log, not of the next one, which was cancelled while it waited.
    assert target.state(Session("2026-01-02T00:00:00+00:00", "8")).phase == "cancelled"


def test_controller_that_does_not_answer_is_an_outage(target: Slurm, slurm: FakeSlurm) -> None:
    slurm.answer("squeue", 1, err="slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n")
    with pytest.raises(ChexError, match="squeue: slurm_load_jobs error: Unable to contact") as raised:
        target.state(Session("2026-01-01T00:00:00+00:00", "7"))
    assert is_transient(raised.value)


def test_several_nodes_meet_at_the_first_one(entry: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "listed_gpus", lambda: 1)
    monkeypatch.setenv("CHEXVISION_NODES", "3 2 gpu17 20007")
    command = entry.launcher()
    assert command[2:] == [
        "torch.distributed.run", "--nnodes", "3", "--node_rank", "2", "--master_addr", "gpu17", "--master_port",
        "20007", "--nproc_per_node", "1",
    ]  # fmt: skip
