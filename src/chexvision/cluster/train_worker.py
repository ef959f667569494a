"""One of the workers that train on a Ray cluster."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chexvision.cluster.desk import show_on
from chexvision.errors import ChexError, UsageError
from chexvision.layout import cache_dir

if TYPE_CHECKING:
    from chexvision.runs.session import Session
    from chexvision.training.run import TrainingOutcome
    from chexvision.training.training_session import TrainingJob

RunJob = Callable[["TrainingJob", Callable[["Session"], None], Callable[[], None]], "TrainingOutcome"]

MARK = ".shared-by-nodes"  # in the folder of --work, to find out whether all nodes see it
_POLL_SECONDS = 1.0
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Task:
    """What each worker gets.

    Args:
        run: trains in a process that is one of several.
        job: what to train.
        desk: the actor that the workers speak to.
        directory: the current one of the command, to which relative paths refer.
        stored: whether Ray stores checkpoints; otherwise all nodes share the folder of `job`.
        run_name: names the folder of a worker that has none from `job`.
        terminal: the width of the terminal that is written to; None for a file.
    """

    run: RunJob
    job: TrainingJob
    desk: Any
    directory: Path
    stored: bool
    run_name: str
    terminal: int | None


def train_worker(config: dict[str, Task]) -> TrainingOutcome:
    """Train as one of the workers."""
    import ray.train

    logging.getLogger("ray").setLevel(logging.ERROR)  # else it tells of every checkpoint
    task = config["task"]
    rank = ray.train.get_context().get_world_rank()
    first = rank == 0
    if task.directory.is_dir():
        os.chdir(task.directory)
    job = task.job
    if task.stored:
        # By rank: on a node that had the first worker before, another one must not find that one's state.
        job = replace(job, work=cache_dir() / "runs" / f"{task.run_name}-{rank}")
        if first:
            _restore(job.work)
    else:
        _check_shared(job)

    def on_session(session: Session) -> None:
        if first:
            threading.Thread(target=_pass_stop_on, args=(task.desk, session), daemon=True).start()

    def on_saved() -> None:
        if first:
            task.desk.count_save.remote()
        if task.stored:
            _report(job.work if first else None)

    with show_on(task.desk if first else None, task.terminal):
        outcome = task.run(job, on_session, on_saved)
        if task.stored:  # with the artifact
            _report(job.work if first else None)
            if first:
                shutil.rmtree(job.work)
    return outcome


def _check_shared(job: TrainingJob) -> None:
    try:
        found = (job.work / MARK).read_text()
    except OSError:
        found = ""
    if found != job.provenance.run_id:
        raise UsageError(
            f"--work {job.work} is not the same folder on all nodes; name one that they share, or add "
            "--storage URL, such as s3://BUCKET/RUN"
        )


def _restore(folder: Path) -> None:
    """Make `folder` what the newest checkpoint has; empty without one."""
    import ray.train

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        checkpoint.to_directory(folder)


def _report(folder: Path | None) -> None:
    """Store what the first worker has in its folder as the newest checkpoint; all workers call this.

    Raises:
        ChexError: there is no space: to train on, and fail at the next checkpoint, would be in vain.
    """
    import ray.train

    try:
        ray.train.report({}, checkpoint=ray.train.Checkpoint.from_directory(folder) if folder is not None else None)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise ChexError(
            f"no checkpoint can be written to --storage ({os.strerror(error.errno)}); free some space, then the "
            "same command continues from the newest one"
        ) from error


def _pass_stop_on(desk: Any, session: Session) -> None:
    """Have `session` end when the desk is asked to, for as long as there is one."""
    import ray

    while True:
        try:
            note = ray.get(desk.stop_requested.remote())
        except ray.exceptions.RayError:
            return
        if note is not None:
            session.request_stop("signal", note)
            return
        time.sleep(_POLL_SECONDS)
