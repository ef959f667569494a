"""The commands of Slurm, and what they report of a job."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib import util

from chexvision.errors import ChexError
from chexvision.foreign import printable

_COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "srun")
# What slurmctld and slurmdbd are reported with when they do not answer (slurm_errno.c).
_OUTAGE = re.compile(r"unable to (contact|connect)|timed out|connection refused|zero bytes|communication", re.I)
_COMMAND_S = 60.0  # the longest that squeue and the like take; slurmctld's own MessageTimeout is 10 s
# Importing submitit reconfigures logging, which closes the program's handlers, unless this is set.
os.environ.setdefault("SUBMITIT_LOG_LEVEL", "NOCONFIG")


class SlurmError(ChexError):
    """A command of Slurm did not do what it was asked to.

    Args:
        command: its name.
        said: what it wrote to stderr.
        is_outage: whether the same may succeed later.
    """

    def __init__(self, command: str, said: str, *, is_outage: bool = False) -> None:
        lines = [line.removeprefix(f"{command}: ").removeprefix("error: ") for line in said.splitlines()]
        self.said = printable(" ".join(filter(None, map(str.strip, lines)))) or "it gives no reason"
        self.is_outage = is_outage or _OUTAGE.search(self.said) is not None
        super().__init__(f"{command}: {self.said}")
        if self.is_outage:
            self.__cause__ = ConnectionError(self.said)  # it is retried


class CommandMissing(SlurmError):
    """The command is not on this machine."""


def ask(*command: str) -> str:
    """What a command of Slurm writes.

    Raises:
        SlurmError: it failed.
    """
    name = command[0]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=_COMMAND_S, errors="replace"
        )
    except FileNotFoundError:
        raise CommandMissing(name, "not on this machine; use a login node of the cluster") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(name, f"no answer in {_COMMAND_S:.0f} s", is_outage=True) from None
    if done.returncode:
        raise SlurmError(name, done.stderr or done.stdout)
    return done.stdout


def check_commands() -> None:
    """Check that Slurm and submitit are on this machine.

    Raises:
        ChexError: something is missing.
    """
    missing = [name for name in _COMMANDS if shutil.which(name) is None]
    if missing:
        raise ChexError(f"no {missing[0]} on this machine; dispatch from a login node of the cluster")
    if util.find_spec("submitit") is None:
        raise ChexError("submitit is not installed here; type: pip install 'chexvision[cluster]'")


def jobs_in_queue(run_id: str) -> set[str]:
    """The jobs of the run that wait or run."""
    listed = ask("squeue", "--noheader", "--me", "--states=PENDING,RUNNING", f"--name={run_id}", "--format=%i")
    return {line.strip() for line in listed.splitlines() if line.strip().isdigit()}


def queue_state(job: str) -> tuple[str | None, str]:
    """State and reason of a job that slurmctld knows: it forgets a job MinJobAge (300 s) after its end."""
    try:
        listed = ask("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T|%r")
    except SlurmError as error:
        if "Invalid job id" in error.said:
            return None, ""
        raise
    state, _, reason = listed.strip().partition("|")
    return state or None, reason


def accounted_state(job: str) -> str | None:
    """State of a job that the accounting knows; None where there is no accounting as well."""
    from submitit.slurm.slurm import SlurmInfoWatcher

    try:
        listed = ask("sacct", "-o", "JobID,State", "--parsable2", "-j", job)
    except CommandMissing:
        return None
    except SlurmError as error:
        if "accounting storage is disabled" in error.said:
            return None
        raise
    state = SlurmInfoWatcher().read_info(listed).get(job, {}).get("State", "")
    return state.split()[0] if state else None  # "CANCELLED by 1000"
