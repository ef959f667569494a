"""Slurm: the same script as a batch job, in a folder that this machine and the nodes share.

submitit writes the batch file, submits it and reads `sacct`. Its pickles are not used: they would name classes of
this package, which may be another version when the job starts. What a job runs are two files in its folder, the run's
script and ``kernels/slurm_job.py``, which asks the script to pause before the time limit and requeues the job.
"""

from __future__ import annotations

import io
import math
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Annotated, ClassVar, Self

import typer
from pydantic import model_validator

from chexvision.errors import UsageError
from chexvision.layout import cache_dir, shared_dir
from chexvision.provenance import now
from chexvision.runs.run_progress import RunProgress
from chexvision_dispatch.run_records import RunRecord, Session
from chexvision_dispatch.script import SCRIPT_NAME
from chexvision_dispatch.targets.session_log import WAIT_S, file_log
from chexvision_dispatch.targets.slurm_commands import (
    SlurmError,
    accounted_state,
    ask,
    check_commands,
    jobs_in_queue,
    queue_state,
)
from chexvision_dispatch.targets.target import (
    GpuHours,
    Phase,
    Refused,
    RunFolder,
    SessionState,
    Target,
    TimeLimit,
)

JOB_NAME = "slurm_job.py"  # next to the script

# The states of a job: https://slurm.schedmd.com/job_state_codes.html. Those of the first two groups may still run.
_WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
_ENDED: dict[str, tuple[Phase, str]] = {
    "COMPLETED": ("complete", ""),
    "CANCELLED": ("cancelled", "the job was cancelled"),
    "FAILED": ("error", "the job failed"),
    "TIMEOUT": ("error", "the job reached its time limit before its state was saved; raise --timeout-hours"),
    "OUT_OF_MEMORY": ("error", "the job needed more memory than it has; dispatch again with more --memory-gb"),
    "NODE_FAIL": ("error", "a node failed, and Slurm did not requeue the job; resume it"),
    "PREEMPTED": ("error", "the job was preempted and not requeued; resume it"),
    "BOOT_FAIL": ("error", "a node could not start; resume it"),
    "DEADLINE": ("error", "the job reached its deadline"),
    "REVOKED": ("error", "the job runs on another cluster of the federation"),
    "LAUNCH_FAILED": ("error", "the job could not be started; see the log"),
}
# Reasons of a job that asks for more than there is: it waits until somebody changes the partition or the limit.
# https://slurm.schedmd.com/job_reason_codes.html; 22.05 says PartitionConfig where 24.05 refuses the job.
_BEYOND = re.compile(r"Partition(TimeLimit|NodeLimit|Config)|BadConstraints|(Assoc|QOS)Max\w+PerJob\w*")
# slurmdbd gets the end of a job seconds later, or after an outage of its own.
_ACCOUNTING_LAG_S = 3600.0
# Names of partitions, accounts: what can stand in a line of a batch file.
_NAME = re.compile(r"[\w.,@:+/-]+")


class SlurmOptions(TimeLimit, RunFolder):
    """Options of a job."""

    longest = 24 * 365
    instead: ClassVar = {
        "max_hours": "it follows from --timeout-hours",
        "token_dataset": "the token of HF_TOKEN or of `hf auth login` is used",
        "accelerator": "take --gpus and --partition",
    }
    for_gpu: ClassVar = ("gpus", "nodes")

    partition: Annotated[str | None, typer.Option(help="Partition of the cluster.")] = None
    account: Annotated[str | None, typer.Option(help="Account that is charged.")] = None
    gpus: Annotated[int, typer.Option(min=0, help="GPUs of each node.")] = 1
    cpus: Annotated[int | None, typer.Option(min=1, help="CPU cores of each node.")] = None
    memory_gb: Annotated[float | None, typer.Option(min=0, help="Memory of each node.")] = None
    nodes: Annotated[int, typer.Option(min=1, help="Nodes that train together.")] = 1
    setup: Annotated[str | None, typer.Option(help="Shell commands before the run, such as 'module load cuda'.")] = (
        None
    )

    @model_validator(mode="after")
    def _plain(self) -> Self:
        for name in ("partition", "account"):
            value = getattr(self, name)
            if value is not None and not _NAME.fullmatch(value):
                raise ValueError(f"--{name} {value!r} is not a name that Slurm has")
        if self.memory_gb is not None and self.memory_gb <= 0:
            raise ValueError(f"--memory-gb {self.memory_gb:g} must be above 0")
        return self

    @property
    def notice_s(self) -> int:
        """How long before the time limit a job is signalled; Slurm does it up to a minute earlier (sbatch(1))."""
        return round((self.timeout_hours - self.max_hours) * 3600)

    def for_run(self, run_id: str, *, dry_run: bool) -> Self:
        """See `RunFolder.for_run`. Slurm replaces ``%j`` and the like in names of files."""
        options = super().for_run(run_id, dry_run=dry_run)
        folder = str(options.run_dir)
        if "%" in folder or not folder.isprintable() or "\\" in folder:
            raise UsageError(f"--run-dir {folder!r} contains what Slurm replaces in names; name another folder")
        return options


class Slurm(Target):
    """Runs scripts as batch jobs of the cluster that this machine submits to."""

    name = "slurm"
    Options = SlurmOptions
    options: SlurmOptions
    is_here = True
    finds_lost_start = True  # by the job's name, the run's id

    def __init__(self, options: SlurmOptions, *, dry_run: bool = False) -> None:
        super().__init__(options, dry_run=dry_run)
        if options.run_dir is None:
            raise ValueError("no run_dir")
        self._run_dir = options.run_dir

    def check(self, needs: GpuHours | None) -> list[str]:
        """Check that Slurm and submitit are here."""
        check_commands()
        return []

    def prepare(self, record: RunRecord, folder: Path) -> list[str]:
        """Put what runs on the nodes next to the script."""
        shutil.copyfile(shared_dir("kernels") / JOB_NAME, folder / JOB_NAME)
        return []

    def start(self, record: RunRecord, folder: Path) -> Session:
        """Submit a job; one of the run's name that is in the queue already is taken for it."""
        earlier = {session.handle for session in record.sessions}
        lost = jobs_in_queue(record.run_id) - earlier
        if lost:
            return Session(now(), min(lost, key=int))
        try:
            return Session(now(), self._submit(record.run_id, self._command(folder)))
        except SlurmError as error:
            if not error.is_outage:
                raise Refused(f"Slurm did not accept the job: {error.said}") from None
            lost = jobs_in_queue(record.run_id) - earlier  # slurmctld may have the job all the same
            if lost:
                return Session(now(), min(lost, key=int))
            raise

    def _submit(self, run_id: str, command: str) -> str:
        """Submit a batch file that ends in `command`; returns the job's id."""
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        options = self.options
        folder = self._run_dir / "slurm"
        folder.mkdir(parents=True, exist_ok=True)
        executor = SlurmExecutor(folder)
        executor.update_parameters(
            job_name=run_id,
            partition=options.partition,
            account=options.account,
            time=math.ceil(options.timeout_hours * 60),
            nodes=options.nodes,
            ntasks_per_node=1,
            gpus_per_node=options.gpus or None,
            cpus_per_task=options.cpus,
            mem=None if options.memory_gb is None else f"{math.ceil(options.memory_gb * 1024)}MB",
            setup=[*_setup(options.setup), *_exports()],
            stderr_to_stdout=True,
            use_srun=False,  # it is in the command, to pass --cpus-per-task
            wckey=None,
            additional_parameters={"signal": f"USR2@{options.notice_s}", "requeue": True},
        )
        try:
            with redirect_stderr(io.StringIO()):  # it prints what it raises
                job = executor._submit_command(command)
        except FailedJobError as error:
            raise SlurmError("sbatch", str(error)) from None
        except FailedSubmissionError as error:  # it exited with 0 and named no job
            raise SlurmError("sbatch", str(error).splitlines()[0], is_outage=True) from None
        return str(job.job_id)

    def _command(self, folder: Path) -> str:
        # SBATCH_EXPORT=NONE of the user would otherwise keep what the batch file exports from the tasks.
        words = ["srun", "--unbuffered", "--kill-on-bad-exit=1", "--export=ALL"]
        if self.options.cpus is not None:
            words.append(f"--cpus-per-task={self.options.cpus}")  # since Slurm 22.05 srun does not take sbatch's
        words += [sys.executable, "-u", str((folder / JOB_NAME).resolve())]
        words += [str(self._run_dir), str((folder / SCRIPT_NAME).resolve()), str(self.options.notice_s)]
        return shlex.join(words)

    def state(self, session: Session) -> SessionState:
        """The job's state: of the queue, of the accounting once that has forgotten it, or of what the script left."""
        state, reason = queue_state(session.handle)
        if state is None:
            state = accounted_state(session.handle)
        if state is None:
            return self._left_state(session)
        if state in _WAITING:
            return SessionState("queued", _why_it_waits(state, reason))
        phase, message = _ENDED.get(state, ("running", ""))
        return SessionState(phase, message, None if phase in ("running", "cancelled") else self._exit_code())

    def log(self, session: Session, *, follow: bool) -> Iterator[str]:
        """The job's log, which the sessions of a job that was requeued append to."""
        from submitit.core.utils import JobPaths

        path = JobPaths(self._run_dir / "slurm", job_id=session.handle).stdout
        while not path.exists():
            if self.state(session).phase != "queued":
                break
            if not follow:
                return
            time.sleep(WAIT_S)
        yield from file_log(path, lambda: not self.state(session).ended, WAIT_S, follow=follow)

    def cancel(self, session: Session) -> bool:
        """Ask the script to save its state and end; a job that waits has nothing to save."""
        waits = self.state(session).phase == "queued"
        ask("scancel", *([] if waits else ["--signal=INT"]), session.handle)
        return True

    def kill(self, session: Session, progress: RunProgress | None) -> None:
        """Cancel the job. Slurm gives it SIGTERM, and after KillWait SIGKILL."""
        ask("scancel", session.handle)

    def passes_files_on(self, session: Session) -> bool:
        """All sessions share a folder."""
        return True

    def collect(self, session: Session, folder: Path, names: Sequence[str]) -> Path | None:
        """It is here already."""
        return self._run_dir / "working"

    def _left_state(self, session: Session) -> SessionState:
        """The end of a job that Slurm does not know any more, from its exit code and log."""
        from submitit.core.utils import JobPaths

        log = JobPaths(self._run_dir / "slurm", job_id=session.handle).stdout
        if not log.exists():  # an exit code would be an earlier job's
            return SessionState("cancelled", "the job left the queue before it started")
        code = self._exit_code()
        if code is not None:
            return SessionState("error" if code else "complete", f"exit code {code}" if code else "", code)
        if time.time() - log.stat().st_mtime < _ACCOUNTING_LAG_S:
            raise SlurmError("sacct", f"no record of job {session.handle} yet", is_outage=True)
        return SessionState("error", f"Slurm does not know job {session.handle} any more, and it left no exit code")

    def _exit_code(self) -> int | None:
        """Of the script, which writes it when it ends."""
        try:
            return int((self._run_dir / "exit-code").read_text())
        except (OSError, ValueError):
            return None


def _why_it_waits(state: str, reason: str) -> str:
    if reason in ("", "None"):
        return state.lower()
    never = "; it asks for more than it may get and will not start: cancel it, and dispatch within the limits (sinfo)"
    return f"{state.lower()}: {reason}{never if _BEYOND.fullmatch(reason) else ''}"


def _setup(commands: str | None) -> list[str]:
    """The user's commands, whose failure ends the job: without its modules a run may compute on the CPU, for days."""
    if commands is None:
        return []
    return ["{", commands, '} || { echo "error: --setup failed with exit code $?" >&2; exit 1; }']


def _exports() -> list[str]:
    """Caches of the user, unless the setup names others: a run's own would download and decode again for each run."""
    from huggingface_hub import constants

    caches = {"HF_HOME": constants.HF_HOME, "CHEXVISION_CACHE": str(cache_dir())}
    return [f"export {name}=${{{name}:-{shlex.quote(path)}}}" for name, path in caches.items()]
