"""A run after its dispatch: following it, ending it, going on with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from chexvision.errors import ChexError, UsageError
from chexvision.provenance import now
from chexvision_dispatch import records
from chexvision_dispatch.records import RunRecord
from chexvision_dispatch.script import check_script
from chexvision_dispatch.target import GpuHours
from chexvision_dispatch.view import RunView, branch_of, look, target_of

POLL_S = 15.0  # between looks at a run that is waited for


def log(record: RunRecord) -> Iterator[str]:
    """What the run's session wrote so far.

    Raises:
        UsageError: it has none.
        ChexError: the target does not answer.
    """
    if not record.sessions:
        raise UsageError(
            f"{record.run_id} has no session yet; start one with: chexvision runs resume {record.run_id}"
        )
    return target_of(record).log(record.sessions[-1], follow=False)


def goes_on(view: RunView) -> bool:
    """Whether the next session should start by itself: the last one paused at its time limit, not at a wish."""
    return view.status == "paused" and "time budget" in view.message


def follow(record: RunRecord, write: Callable[[str], object]) -> RunView:
    """Hand on what the run's session writes until it ends.

    Raises:
        ChexError: the target does not answer; see `Target.log`.
    """
    if not record.sessions:
        raise UsageError(
            f"{record.run_id} has no session yet; start one with: chexvision runs resume {record.run_id}"
        )
    for text in target_of(record).log(record.sessions[-1], follow=True):
        write(text)
    return look(record)


def wait(record: RunRecord, seen: Callable[[RunView], object] = lambda view: None) -> RunView:
    """Wait until the run's session has ended, showing each look at it to `seen`.

    Raises:
        ChexError: see `look`.
    """
    while True:
        view = look(record)
        seen(view)
        if view.ended:
            return view
        time.sleep(POLL_S)


def resume(record: RunRecord) -> tuple[RunRecord, list[str]]:
    """Start the run's next session: the same script, going on from the last state.

    Returns:
        The record with the new session, and what the user should know.

    Raises:
        UsageError: the run goes on, or is complete.
        ChexError: its script is gone, or the target refuses; see `Target.start`.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(records.runs_dir().with_name(f"{record.run_id}.lock"), timeout=0)
    try:
        with lock:
            return _resume(records.load(record.run_id))
    except Timeout:
        raise ChexError(f"another command is starting a session of {record.run_id}") from None


def _resume(record: RunRecord) -> tuple[RunRecord, list[str]]:
    view = look(record)
    if view.status in ("queued", "running"):
        raise UsageError(f"{record.run_id} is {view.status}; end it first: chexvision runs cancel {record.run_id}")
    if view.status == "complete":
        raise UsageError(f"{record.run_id} is complete; publish it with: chexvision runs collect {record.run_id}")
    record, folder = view.record, Path(record.folder)
    check_script(record)
    target = target_of(record)
    notes = target.check(GpuHours())
    branch = branch_of(record)
    if branch is not None and _has_token():
        branch.forget_stop()
    notes += target.prepare(record, folder)
    session = target.start(record, folder)
    record = records.update(record.run_id, lambda known: replace(known, sessions=(*known.sessions, session)))
    return record, notes


def _has_token() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None


def cancel(record: RunRecord) -> str:
    """Ask the run's session to end, saving its state; returns what was done, in words.

    Raises:
        UsageError: it has ended.
        ChexError: it could not be asked.
    """
    view = look(record)
    session = view.session
    if session is None or view.ended:
        raise UsageError(f"{record.run_id} is {view.status}; there is nothing to end")
    if target_of(record).cancel(session):
        return f"asked {record.target} to end it"
    branch = branch_of(record)
    page = f"end it on {session.page}"
    if branch is None or not _has_token():
        why = "it publishes to no Hub repository" if branch is None else "you have no Hub token here (hf auth login)"
        raise ChexError(f"{record.target} cannot be asked to end a session, and {why}: {page}")
    branch.ask_to_stop(now())
    return (
        f"left the wish on {branch.repo_id}, branch {branch.name}: a session with a Hub token looks there every "
        f"minute, saves its state and ends; {record.target} itself cannot be asked. To end it at once: {page}"
    )
