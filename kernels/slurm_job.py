"""Run a run's script on the nodes of a Slurm job, and requeue the job where Slurm cuts it off.

srun starts this once on each node:

    python slurm_job.py RUN_FOLDER SCRIPT SECONDS

The script runs in RUN_FOLDER/working, as with `--on local`. A signal asks it to save its state and end:

- SIGUSR2 is the one of `sbatch --signal`: the time limit is SECONDS away, or up to a minute more.
- SIGTERM comes before a preemption, and with `scancel`.
- SIGINT is sent by `chexvision runs cancel`.

After the first two the job goes back to the queue, if the run paused, and continues from the same folder. So it does
shortly before its time limit if the script still runs, as in the evaluation after the last epoch. Where Slurm ends
the job itself, as with `scancel` or a preemption without a grace time, nothing is requeued here: its state is no
longer RUNNING then.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

TIME_LIMIT, CANCEL = signal.SIGUSR2, signal.SIGINT
# As `runs wait --auto-resume`: sessions that are too short for their work must not follow each other for ever.
IDLE_SESSIONS = 3
# Before its time limit a job whose script still runs is requeued: slurmctld may take MessageTimeout (10 s) to answer.
REQUEUE_S = 60.0
KAGGLE = ("KAGGLE_API_TOKEN", "KAGGLE_KEY", "KAGGLE_USERNAME")  # a run needs none of them


class Script:
    """The script of a run in a process of its own, which is signalled once.

    Args:
        folder: of the run.
        path: of the script.
        environment: that it runs in.
        notice_s: how long before the time limit its signal comes.
    """

    def __init__(self, folder: Path, path: Path, environment: dict[str, str], notice_s: float) -> None:
        self.signals: list[int] = []
        self._pause_s = max(notice_s - REQUEUE_S, notice_s / 2)
        self._cut_at: float | None = None
        self._process: subprocess.Popen[bytes] | None = None
        for number in (TIME_LIMIT, signal.SIGTERM, CANCEL):
            signal.signal(number, self._on_signal)
        self._process = subprocess.Popen(
            [sys.executable, "-u", str(path)],
            cwd=folder / "working",
            env=environment,
            stdin=subprocess.DEVNULL,
            # Unless processes are tracked in cgroups, Slurm signals all of a step's; what ignores it survives.
            preexec_fn=lambda: signal.signal(TIME_LIMIT, signal.SIG_IGN),
        )
        if self.signals:  # it came before there was a process
            self._process.send_signal(signal.SIGTERM)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signals.append(number)
        if number == TIME_LIMIT:
            self._cut_at = time.monotonic() + self._pause_s
        # Slurm repeats SIGTERM when a grace time is over, and a second one would end training without saving.
        if len(self.signals) == 1 and self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def ends_in_time(self) -> bool:
        """Wait until it ends, or the time limit is too near to wait any longer."""
        assert self._process is not None  # noqa: S101
        while self._cut_at is None or time.monotonic() < self._cut_at:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0.5)
                return True
        return False

    def wait(self) -> int:
        """Its exit code, as a shell reports it."""
        assert self._process is not None  # noqa: S101
        code = self._process.wait()
        return code if code >= 0 else 128 - code


def main(folder: Path, script: Path, notice_s: float) -> int:
    """Run the script on this node, and requeue the job if it is cut off."""
    node = int(os.environ.get("SLURM_PROCID", "0"))
    for name in ("working", "input", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    environment = environment_of(folder, node)
    if node == 0:
        (folder / "exit-code").unlink(missing_ok=True)
    running = Script(folder, script, environment, notice_s)
    if not running.ends_in_time():
        if node == 0 and CANCEL not in running.signals:
            requeue_unless_idle(folder)
        return running.wait()
    code = running.wait()
    paused = code == 0 and progress_of(folder).get("status") == "paused"  # else complete before the signal came
    if node == 0 and paused and running.signals and CANCEL not in running.signals:
        if running.signals[0] == TIME_LIMIT:
            requeue_unless_idle(folder)
        else:
            requeue()
    return code


def requeue_unless_idle(folder: Path) -> None:
    """Put the job back into the queue, unless its time limit is too short for its work."""
    if idle_sessions(folder) < IDLE_SESSIONS:
        requeue()
        return
    say(
        f"{IDLE_SESSIONS} sessions in a row ended no epoch and finished no shard; they are too short. Not requeued: "
        "dispatch with a longer --timeout-hours"
    )


def environment_of(folder: Path, node: int) -> dict[str, str]:
    """What the script runs in: the job's own variables, the user's Hub token, and nothing of Kaggle."""
    environment = {name: value for name, value in os.environ.items() if name not in KAGGLE}
    environment["CHEXVISION_NO_INSTALL"] = "1"
    # The entry turns it off where it is not set, for Kaggle's T4s; NVLink needs it.
    environment.setdefault("NCCL_P2P_DISABLE", "0")
    if "HF_TOKEN" not in environment:
        from huggingface_hub import get_token

        token = get_token()
        if token is not None:
            environment["HF_TOKEN"] = token
    if node == 0:
        environment["CHEXVISION_EXIT_FILE"] = str(folder / "exit-code")
    nodes = int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
    if nodes > 1:
        from submitit.slurm.slurm import SlurmJobEnvironment

        host, port = SlurmJobEnvironment().hostnames[0], 20_000 + int(os.environ["SLURM_JOB_ID"]) % 10_000
        environment["CHEXVISION_NODES"] = f"{nodes} {node} {host} {port}"
    return environment


def requeue() -> None:
    """Put the job back into the queue, if Slurm does not end it."""
    job = os.environ["SLURM_JOB_ID"]
    asked = subprocess.run(
        ["squeue", "--noheader", f"--jobs={job}", "--format=%T"], check=False, capture_output=True, text=True
    )
    state = asked.stdout.strip()
    if asked.returncode == 0 and state != "RUNNING":
        say(f"not requeued from here: job {job} is {state or 'unknown'}")
        return
    done = subprocess.run(["scontrol", "requeue", job], check=False, capture_output=True, text=True)
    if done.returncode:
        say(
            f"WARNING: job {job} could not be requeued ({done.stderr.strip()}); continue with: chexvision runs resume"
        )
    else:
        say(f"requeued job {job}: it continues from the saved state")


def idle_sessions(folder: Path) -> int:
    """How many sessions in a row, with this one, reached their time limit and ended no epoch or shard."""
    path, progress = folder / "requeues.json", progress_of(folder)
    reached = [progress.get("epoch", 0), progress.get("images_done", 0)]
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        before = {"reached": [0, 0], "idle": 0}
    idle = before["idle"] + 1 if before["reached"] == reached else 0
    path.write_text(json.dumps({"reached": reached, "idle": idle}), encoding="utf-8")
    return int(idle)


def progress_of(folder: Path) -> dict[str, Any]:
    """The run's ``progress.json``; empty where there is none."""
    try:
        found: dict[str, Any] = json.loads((folder / "working" / "progress.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def say(message: str) -> None:
    print(message, flush=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])))
