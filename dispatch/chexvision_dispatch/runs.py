"""A run after its dispatch: following it, ending it, resuming it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from chexvision import retry
from chexvision.errors import ChexError, UsageError
from chexvision.provenance import now
from chexvision_dispatch import run_records as records
from chexvision_dispatch.polling import until_answered
from chexvision_dispatch.recover import has_hub_token, make_reachable, reads_branch
from chexvision_dispatch.run_records import RunRecord, Session
from chexvision_dispatch.script import check_script
from chexvision_dispatch.targets.target import Busy, GpuHours, NotAsRequested, Refused, Target
from chexvision_dispatch.view import RunView, branch_of, poll, target_of

_IDLE_SESSIONS = 3
_BUSY_WAITS_S = (5.0, 10.0, 20.0, 40.0, 80.0, 120.0, 120.0)  # about 7 minutes
POLL_S = 15.0  # between polls of a run that is waited for


def log(record: RunRecord) -> Iterator[str]:
    """What the run's session wrote so far.

    Raises:
        UsageError: it has none.
        ChexError: the target does not answer.
    """
    return target_of(record).log(_last_session(record), follow=False)


def _last_session(record: RunRecord) -> Session:
    if not record.sessions:
        raise UsageError(
            f"{record.run_id} has no session yet; start one with: chexvision runs resume {record.run_id}"
        )
    return record.sessions[-1]


def pauses_for_time(view: RunView) -> bool:
    """Whether the next session should start by itself: the last one paused at its time limit, not on request."""
    reason = view.progress.stop_reason if view.progress is not None else None
    return view.status == "paused" and reason == "time_budget"


def follow(record: RunRecord, write: Callable[[str], object]) -> RunView:
    """Pass what the run's session writes to `write` until it ends. An outage of the target is waited out.

    Raises:
        UsageError: it has no session.
        ChexError: the target refuses; see `Target.log`.
    """
    session = _last_session(record)
    for text in until_answered(lambda: target_of(record)).log(session, follow=True):
        write(text)
    return until_answered(lambda: poll(record))


def wait(record: RunRecord, seen: Callable[[RunView], object] = lambda view: None) -> RunView:
    """Wait until the run's session has ended, showing each poll to `seen`. An outage of the target is waited out.

    Raises:
        ChexError: the target refuses; see `poll`.
    """
    while True:
        view = until_answered(lambda: poll(record))
        seen(view)
        if view.ended:
            return view
        time.sleep(POLL_S)


def attend(
    record: RunRecord,
    once: Callable[[RunRecord], RunView],
    say: Callable[[str], object],
    *,
    auto_resume: bool,
) -> RunView:
    """Stay with a run to its end; with `auto_resume` through as many sessions as it takes.

    Sessions that are too short for their work would follow each other until the quota is used up: the third one in
    a row that ends no epoch, and finishes no shard, is the last. A run whose next session the target refuses, as when
    the quota is used up, stays paused.

    Args:
        record: the run.
        once: stays with one session, such as `wait`.
        say: receives what is done between sessions, for the user.
        auto_resume: whether to start the next session when one pauses at its time limit.

    Raises:
        ChexError: see `once` and `resume`.
    """
    resuming = AutoResume(say)
    while True:
        view = once(record)
        following = resuming.next_session(view) if auto_resume else None
        if following is None:
            return view
        record = following


class AutoResume:
    """Starts the next session of a run each time one pauses at its time limit; see `attend`.

    Args:
        say: receives what is done, for the user.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._reached = (0, 0)
        self._idle = 0

    def next_session(self, view: RunView) -> RunRecord | None:
        """The run with its next session; None where it did not pause at its limit, or is not resumed.

        Raises:
            ChexError: see `resume`.
        """
        if not pauses_for_time(view) or view.progress is None:
            return None
        before, self._reached = self._reached, (view.progress.epoch, view.progress.images_done)
        self._idle = self._idle + 1 if self._reached == before else 0
        if self._idle == _IDLE_SESSIONS:
            self._say(
                f"{_IDLE_SESSIONS} sessions in a row ended no epoch and finished no shard; they are too short. "
                "Not resumed again"
            )
            return None
        try:
            record = _next_session(view.record)
        except Refused as error:
            self._say(f"not resumed: {error}")
            return None
        self._say(f"session {len(record.sessions)} of {record.run_id} continues")
        return record


def _next_session(record: RunRecord) -> RunRecord:
    """Resume a run; a target that counts the session that has just ended still as running is asked again."""
    for wait_s in _BUSY_WAITS_S:
        try:
            return until_answered(partial(resume, record))[0]
        except Busy:
            retry.sleep(wait_s)
    return until_answered(partial(resume, record))[0]


def resume(record: RunRecord) -> tuple[RunRecord, list[str]]:
    """Start the run's next session: the same script, from the last state.

    Returns:
        The record with the new session, and what the user should know.

    Raises:
        UsageError: the run has not ended, or is complete.
        NotAsRequested: the session was started and recorded, but without something that it needs.
        ChexError: its script is gone, the session would not reach its state, or the target refuses; see
            `make_reachable` and `Target.start`.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(records.runs_dir().with_name(f"{record.run_id}.lock"), timeout=0)
    try:
        with lock:
            return _resume(records.load(record.run_id))
    except Timeout:
        raise ChexError(f"another command is starting a session of {record.run_id}") from None


def _resume(record: RunRecord) -> tuple[RunRecord, list[str]]:
    view = poll(record)
    if view.status in ("queued", "running"):
        raise UsageError(f"{record.run_id} is {view.status}; end it first: chexvision runs cancel {record.run_id}")
    if view.status == "complete":
        raise UsageError(f"{record.run_id} is complete; publish it with: chexvision runs collect {record.run_id}")
    record, folder = view.record, Path(record.folder)
    check_script(record)
    target = target_of(record)
    notes = target.check(GpuHours(force=True))
    notes += make_reachable(view, target)
    branch = branch_of(record)
    if branch is not None and has_hub_token():
        branch.withdraw_stop_request()
    notes += target.prepare(record, folder)
    try:
        session = target.start(record, folder)
    except NotAsRequested as error:
        records.add_session(record, error.session)
        raise
    return records.add_session(record, session), notes


def cancel(record: RunRecord) -> str:
    """Ask the run's session to end, saving its state; returns what was done, for the user.

    Raises:
        UsageError: it has ended.
        ChexError: it could not be asked.
    """
    view = poll(record)
    session = _live_session(view)
    target, by_hand = target_of(record), f"end it on {session.page}"
    if target.cancel(session):
        return f"asked {target.name} to end it"
    try:
        done = _leave_stop_request(record, target)
    except _Unreachable as error:
        raise ChexError(f"{error}: {by_hand}") from None
    now_command = f"chexvision runs cancel {record.run_id} --now"
    return f"{done}. To end it in any case: {now_command}, or {by_hand}"


def end(record: RunRecord, grace_s: float, say: Callable[[str], object]) -> RunView:
    """Ask the run's session to save its state and end; end it at once when it has not done so in `grace_s` seconds.

    Args:
        record: the run.
        grace_s: what a session is given to save its state; no time where no stop request can be left.
        say: receives what is done, for the user.

    Raises:
        UsageError: it has ended.
        ChexError: it runs and could not be ended; the page to end it on is named.
    """
    view, target = poll(record), target_of(record)
    session = _live_session(view)
    if target.cancel(session):
        say(f"asked {target.name} to end it")
    else:
        try:
            say(_leave_stop_request(record, target))
        except ChexError as error:  # a session that burns GPU hours is ended nevertheless
            say(f"{error}; ending it without a stop request")
            grace_s = 0.0
    deadline = retry.clock() + grace_s
    while not view.ended and retry.clock() < deadline:
        time.sleep(POLL_S)
        view = until_answered(lambda: poll(record))
    if not view.ended:
        view = until_answered(lambda: poll(record))
    if view.ended:
        return view
    say("ending it now; what it did since it last saved its state is lost")
    try:
        target.kill(session, view.session_progress)
    except ChexError:
        if (view := poll(record)).ended:
            return view
        raise
    return wait(record)


def _live_session(view: RunView) -> Session:
    if view.session is None or view.ended:
        raise UsageError(f"{view.record.run_id} is {view.status}; there is nothing to end")
    return view.session


class _Unreachable(ChexError):
    """No stop request can reach the session."""


def _leave_stop_request(record: RunRecord, target: Target) -> str:
    """Leave a stop request on the run's branch; returns what was done, for the user."""
    branch, why = branch_of(record), ""
    if branch is None:
        why = "the run publishes to no Hub repository"
    elif not has_hub_token():
        why = "you have no Hub token here (hf auth login)"
    elif not reads_branch(branch, target):
        why = "its sessions have no Hub token to read one with"
    if branch is None or why:
        raise _Unreachable(f"{target.name} forwards no stop request to a session, and {why}")
    branch.request_stop(now())
    return (
        f"left a stop request on {branch.repo_id}, branch {branch.name}: a session with a Hub token polls it every "
        "minute, saves its state and ends"
    )
