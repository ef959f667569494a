"""Slurm's commands, as far as dispatch uses them: one program under the names sbatch, squeue, scancel and so on.

They answer as those of Slurm 22.05.8 (Debian's slurm-wlm, without slurmdbd) were seen to. What an accounting answers
is that of the manual page sacct(1) of 24.05.
State is kept in files: ``jobs/ID.json``, and ``answers/COMMAND`` with an answer (exit code, stdout, stderr) that a
test wants instead of the usual one.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

NAMES = ("sbatch", "srun", "squeue", "sacct", "scancel", "scontrol")
ENDED = ("COMPLETED", "FAILED", "CANCELLED")


class FakeSlurm:
    """What a test does as the cluster's administrator and clock.

    Args:
        root: folder of its state and of the executables, which have to be on PATH.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bin = root / "bin"
        for name in ("bin", "jobs", "answers"):
            (root / name).mkdir(parents=True)
        for name in NAMES:
            path = self.bin / name
            path.write_text(f'#!/bin/sh\nexec {sys.executable} -ES {__file__} {root} {name} "$@"\n')
            path.chmod(0o755)

    def answer(self, command: str, code: int = 0, out: str = "", err: str = "") -> None:
        """Have a command give this answer from now on."""
        (self.root / "answers" / command).write_text(json.dumps([code, out, err]))

    def answer_as_usual(self, command: str) -> None:
        (self.root / "answers" / command).unlink()

    @property
    def jobs(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted((self.root / "jobs").glob("*.json"))]

    def signal(self, number: int, *, descendants: bool = False) -> None:
        """Signal the task of the first job: with cgroups slurmd signals its process alone, else all `descendants`."""
        import psutil

        task = psutil.Process(read(self.root, 1)["task"])
        for process in [*(task.children(recursive=True) if descendants else []), task]:
            process.send_signal(number)

    def stop(self) -> None:
        """Kill what still runs, as after a test that failed."""
        import psutil

        for job in self.jobs:
            if job["task"] is None or job["state"] in ENDED:
                continue
            with suppress(psutil.NoSuchProcess):
                task = psutil.Process(job["task"])
                for process in [*task.children(recursive=True), task]:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()


def read(root: Path, job: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "jobs" / f"{job}.json").read_text())
    return found


def change(root: Path, job: int, **values: object) -> None:
    path = root / "jobs" / f"{job}.json"
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps(read(root, job) | values))
    new.replace(path)


def sbatch(root: Path, words: list[str]) -> int:
    script = Path(words[-1]).read_text()
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH --")]
    options = dict((shlex.split(line)[0].split("=", 1) + [""])[:2] for line in lines)
    job = 1 + len(list((root / "jobs").glob("*.json")))
    held = (root / "hold").exists()
    state = {"id": job, "name": options["job-name"], "state": "PENDING", "options": options, "runs": 0, "task": None}
    (root / "jobs" / f"{job}.json").write_text(json.dumps(state))
    (root / "jobs" / f"{job}.sh").write_text(script)
    if not held:
        subprocess.Popen(
            [sys.executable, "-ES", __file__, str(root), "slurmd", str(job)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    if not (root / "loses-answers").exists():
        print(f"Submitted batch job {job}")
        return 0
    print("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", file=sys.stderr)
    return 1


def slurmd(root: Path, words: list[str]) -> int:
    """Run a job's batch file, again as often as it is requeued."""
    job = int(words[0])
    output = read(root, job)["options"]["output"].replace("%j", str(job))
    while True:
        runs = read(root, job)["runs"] + 1
        change(root, job, state="RUNNING", runs=runs, requeued=False)
        environment = {**os.environ, "SLURM_JOB_ID": str(job), "SLURM_JOB_NUM_NODES": "1"}
        with open(output, "ab") as log:  # noqa: PTH123
            code = subprocess.run(
                ["bash", str(root / "jobs" / f"{job}.sh")], env=environment, stdout=log, stderr=log, check=False
            ).returncode
        known = read(root, job)
        if not known["requeued"]:
            ended = known["state"] if known["state"] == "CANCELLED" else "FAILED" if code else "COMPLETED"
            change(root, job, state=ended, completing=False)
            return 0
        change(root, job, state="PENDING")


def srun(root: Path, words: list[str]) -> int:
    command = words[next(index for index, word in enumerate(words) if not word.startswith("-")) :]
    change(root, int(os.environ["SLURM_JOB_ID"]), task=os.getpid())
    os.environ["SLURM_PROCID"] = "0"
    os.execv(command[0], command)


def squeue(root: Path, words: list[str]) -> int:
    options = dict((word.removeprefix("--").split("=", 1) + [""])[:2] for word in words)
    jobs = [json.loads(path.read_text()) for path in sorted((root / "jobs").glob("*.json"))]
    if "jobs" in options:
        jobs = [job for job in jobs if str(job["id"]) == options["jobs"]]
        if not jobs:
            print("slurm_load_jobs error: Invalid job id specified", file=sys.stderr)
            return 1
    if "name" in options:
        jobs = [job for job in jobs if job["name"] == options["name"]]
    if options.get("states") != "all":  # by default pending, running and completing jobs
        jobs = [job for job in jobs if job["state"] not in ENDED or job.get("completing")]
    for job in jobs:
        state = "COMPLETING" if job.get("completing") else job["state"]
        values = {"%i": str(job["id"]), "%T": state, "%r": "Resources" if state == "PENDING" else "None"}
        line = options["format"]
        for name, value in values.items():
            line = line.replace(name, value)
        print(line)
    return 0


def sacct(root: Path, words: list[str]) -> int:
    print("Slurm accounting storage is disabled", file=sys.stderr)
    return 1


def scancel(root: Path, words: list[str]) -> int:
    job = read(root, int(words[-1]))
    name = next((word.split("=")[1] for word in words if word.startswith("--signal=")), None)
    if name is not None and job["state"] != "RUNNING":
        why = "Job can not be altered now, try again later"
        if job["state"] != "PENDING":
            why = "Job/step already completing or completed"
        print(f"scancel: error: Kill job error on job id {job['id']}: {why}", file=sys.stderr)
        return 228
    if job["state"] in ENDED:
        return 0
    if name is None:
        change(root, job["id"], state="CANCELLED", completing=job["state"] == "RUNNING")
        name = "TERM"
    if job["task"] is not None:
        os.kill(job["task"], signal.Signals[f"SIG{name}"])
    return 0


def scontrol(root: Path, words: list[str]) -> int:
    assert words[0] == "requeue"
    change(root, int(words[1]), requeued=True)
    return 0


if __name__ == "__main__":
    folder, command, *rest = sys.argv[1:]
    asked = Path(folder) / "answers" / command
    with (Path(folder) / "asked.txt").open("a") as file:
        file.write(f"{shlex.join([command, *rest])}\n")
    if asked.exists():
        answered, out, err = json.loads(asked.read_text())
        print(out, end="")
        print(err, end="", file=sys.stderr)
        sys.exit(answered)
    sys.exit(globals()[command](Path(folder), rest))
