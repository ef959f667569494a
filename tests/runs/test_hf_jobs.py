"""`--on hf-jobs` with the real client: the job request, and its command, run locally."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chexvision.hub.account import NEW_TOKEN_PAGE
from chexvision_dispatch import run_records as records
from chexvision_dispatch.targets.hf_jobs import FETCH, IMAGE
from tests.dispatch.standin import Cli, raised
from tests.fakes.hub import FakeHub
from tests.fakes.hub_jobs import Job
from tests.runs.conftest import SHA

pytestmark = pytest.mark.usefixtures("packs_stand_in")
WORDS = ["dispatch", "--on", "hf-jobs", "--model", "densenet", "--data", f"chex/xrays@{SHA}", "--to", "chex/model"]


def run_job_command(job: Job, root: Path) -> subprocess.CompletedProcess[str]:
    """Run a job's command with only the environment and secrets of the job."""
    env = {"PATH": os.environ["PATH"], "HOME": str(root), "CHEXVISION_ROOT": str(root), "STANDIN_EPOCHS": "2"}
    env |= {"HF_HUB_DISABLE_XET": "1", **job.spec["environment"], **job.spec["secrets"]}
    program, *words = job.spec["command"]
    assert program == "python"
    job.stage = "RUNNING"
    done = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, check=False, timeout=300)
    job.lines = done.stdout.splitlines()
    job.stage = "ERROR" if done.returncode else "COMPLETED"
    return done


def test_job_request_is_complete_and_passes_the_token_only_as_a_secret(cli: Cli, fake_hub: FakeHub) -> None:
    result = cli(*WORDS, "--flavor", "a10g-small", "--timeout-hours", "2")
    assert result.code == 0, result.err
    assert "a job on a10g-small (Nvidia A10G - small) costs $0.01667 per minute" in result.out
    (job,) = fake_hub.jobs
    record = records.find(None)
    script = Path(record.folder, "script.py").read_bytes()
    commit = fake_hub.commits("chex/model", f"run/{record.run_id}")[0].sha
    url = f"{fake_hub.url}/chex/model/resolve/{commit}/script.py"
    assert job.spec == {
        "dockerImage": IMAGE,
        "command": ["python", "-c", FETCH, url, hashlib.sha256(script).hexdigest()],
        "arguments": [],
        "environment": {"HF_ENDPOINT": fake_hub.url, "PIP_BREAK_SYSTEM_PACKAGES": "1"},
        "secrets": {"HF_TOKEN": "hf_right"},
        "flavor": "a10g-small",
        "timeoutSeconds": 7200,
        "labels": job.spec["labels"],
    }
    assert job.spec["labels"]["chexvision-run"] == record.run_id
    assert record.sessions[0].handle == job.id
    assert not any(b"hf_right" in path.read_bytes() for path in records.runs_dir().rglob("*") if path.is_file())
    assert cli("runs", "status", "--json").out.count('"status": "queued"') == 1


def test_job_trains_publishes_and_can_be_followed(cli: Cli, fake_hub: FakeHub, tmp_path: Path) -> None:
    cli(*WORDS)
    done = run_job_command(fake_hub.jobs[0], tmp_path / "machine")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Hub token: from the environment variable HF_TOKEN" in done.stdout
    run_id = records.find(None).run_id
    assert run_id in fake_hub.tags("chex/model")
    followed = cli("runs", "logs", "-f")
    assert followed.code == 0, followed.err
    assert "epoch 2\n" in followed.out
    seen = json.loads(cli("runs", "status", "--json").out)
    assert (seen["status"], seen["progress"]["epoch"]) == ("complete", 2)
    assert "hf_right" not in done.stdout + done.stderr


def test_cancel_cancels_and_resume_starts_a_job_with_the_same_script(cli: Cli, fake_hub: FakeHub) -> None:
    cli(*WORDS)
    assert "asked hf-jobs to end it" in cli("runs", "cancel").out
    assert fake_hub.jobs[0].stage == "CANCELED"
    assert cli("runs", "wait").code == 130
    resumed = cli("runs", "resume")
    assert resumed.code == 0, resumed.err
    first, second = (job.spec["command"] for job in fake_hub.jobs)
    assert first[-1] == second[-1]  # the script's sha256


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--flavor", "p100"], "the Hub has no such hardware; it has cpu-basic"),
        (["--accelerator", "x"], "--accelerator is for --on kaggle; with --on hf-jobs leave it out"),
        (["--timeout-hours", "0"], "--timeout-hours 0 must be above 0"),
    ],
)
def test_job_options_that_the_hub_rejects_are_refused(
    cli: Cli, fake_hub: FakeHub, words: list[str], message: str
) -> None:
    result = cli(*WORDS, *words)
    assert result.code == 2
    assert message in result.err
    assert fake_hub.jobs == []


def test_token_without_job_permission_creates_no_run(
    cli: Cli, fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_hub.add_token("hf_reads", "read")
    monkeypatch.setenv("HF_TOKEN", "hf_reads")
    result = cli(*WORDS)
    assert result.code == 1
    assert "the token may not create chex/model (HTTP 403)" in result.err
    assert "hf_reads" not in result.err + result.out
    assert records.every(raised) == []


def test_oauth_token_in_a_job_is_a_warning(cli: Cli, fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "OAuth" not in cli(*WORDS, "--dry-run").out
    fake_hub.add_token("hf_oauth_x", "oauth")
    monkeypatch.setenv("HF_TOKEN", "hf_oauth_x")
    result = cli(*WORDS)
    assert result.code == 0, result.err
    assert "a copy, which is not refreshed there" in result.out
    assert NEW_TOKEN_PAGE in result.out
