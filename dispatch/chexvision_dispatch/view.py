"""The status of a run: what its target reports, joined with the run's own progress."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from chexvision.errors import ChexError
from chexvision.files.atomic import write_text_atomic
from chexvision.hub.reference import Reference, RepoRef, parse_reference
from chexvision.retry import is_transient
from chexvision.runs.branch import RunBranch
from chexvision.runs.run_progress import PROGRESS_FILE, RunProgress, read_progress
from chexvision_dispatch import run_records as records
from chexvision_dispatch.kernels import kernel_named
from chexvision_dispatch.run_records import RunRecord, Session
from chexvision_dispatch.targets.registry import open_target
from chexvision_dispatch.targets.target import Phase, SessionState, Target

_LAST_LINES = 12
_FINAL = ("paused", "complete", "failed")  # statuses of a session that ended

# What `runs wait` and `runs logs -f` exit with. 75 is the system's own number for "not now, try again".
EXIT_CODES = {"complete": 0, "failed": 1, "unsent": 1, "unpublished": 3, "paused": 75, "cancelled": 130}


@dataclass(frozen=True, slots=True)
class RunView:
    """The status of a run.

    Args:
        record: what this machine recorded of it, updated.
        status: "unsent", "queued", "running", "paused", "complete", "unpublished" (the artifact is complete, but
            the session could not publish it), "failed" or "cancelled".
        message: the target's message, or why the run paused or failed.
        progress: the run's own progress, where it can be read.
        is_current: whether the progress is of the last session.
        failing: the last lines of the log of a session that failed.
        unread: why something could not be found out.
    """

    record: RunRecord
    status: str
    message: str = ""
    progress: RunProgress | None = None
    is_current: bool = False
    failing: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come unless it is resumed."""
        return self.status in EXIT_CODES

    @property
    def session(self) -> Session | None:
        """The last one."""
        return self.record.sessions[-1] if self.record.sessions else None

    @property
    def session_progress(self) -> RunProgress | None:
        """What the last session itself reported: by the number alone, since clocks differ."""
        reported = self.progress is not None and self.progress.session >= len(self.record.sessions)
        return self.progress if reported else None

    @property
    def errors(self) -> list[str]:
        """What the command of a session that failed gave as its reason."""
        return [line.removeprefix("error: ") for line in self.failing if line.startswith("error: ")]

    def as_json(self) -> dict[str, Any]:
        """For programs: the record, the status and the progress."""
        return {
            **asdict(self.record),
            "status": self.status,
            "message": self.message,
            "progress": self.progress.model_dump() if self.progress else None,
            "failing": list(self.failing),
            "unread": list(self.unread),
        }


def target_of(record: RunRecord) -> Target:
    """The target that a run was sent to."""
    return open_target(record.target, record.options)


def poll(record: RunRecord) -> RunView:
    """Ask the target and the run itself for the status, and record how its session ended.

    Raises:
        ChexError: the target does not answer; or the session ended, and its progress cannot be read now.
    """
    if not record.sessions:
        return RunView(record, "unsent", "it is not known whether the target accepted it; see the target's page")
    session, target = record.sessions[-1], target_of(record)
    state = _known_end(session) or target.state(session)
    progress, unread = _progress(record, target, ended=state.ended)
    # Whether it is of the last session: one that died at once was not counted by the next.
    is_current = progress is not None and (
        progress.session >= len(record.sessions) or progress.updated_at >= session.started_at
    )
    if not state.ended:
        status, message = str(state.phase), state.message
    else:
        if session.outcome is None and not (is_current and progress is not None and progress.status in _FINAL):
            for error in filter(is_transient, unread):  # how it ended is not known yet
                raise error
        status, message = _outcome(state, progress if is_current else None, record.published)
        if session.outcome is None:
            session = replace(session, outcome=status, exit_code=state.exit_code)
            record = records.update(record.run_id, lambda known: _with_session(known, session))
    if progress is not None and progress.published and record.published is None:
        record = records.update(record.run_id, lambda known: replace(known, published=progress.published))
    failing = _failing_lines(target, session) if status == "failed" else ()
    view = RunView(record, status, message, progress, is_current, failing, tuple(str(error) for error in unread))
    explained = is_current and progress is not None and progress.note
    if view.errors and not explained:  # it ended before it could report it itself
        view = replace(view, message=f"{message}: {view.errors[-1]}" if message else view.errors[-1])
    return view


def _known_end(session: Session) -> SessionState | None:
    """The end that was seen before: an ended session changes no more, and its target forgets it some day."""
    if session.outcome is None:
        return None
    phases: dict[str, Phase] = {"failed": "error", "unpublished": "error", "cancelled": "cancelled"}
    return SessionState(phases.get(session.outcome, "complete"), exit_code=session.exit_code)


def _outcome(state: SessionState, progress: RunProgress | None, published: str | None) -> tuple[str, str]:
    """How the session ended; `published` is where the artifact is, if it was published from this machine later."""
    if progress is not None and progress.status == "complete":
        if published is not None:
            return "complete", ""
        unpublished = state.phase == "error" and progress.published is None
        return "unpublished" if unpublished else "complete", progress.note
    if progress is not None and progress.status == "paused":
        return "paused", progress.note
    if state.phase == "cancelled":
        return "cancelled", state.message
    if state.phase == "complete":
        return "complete", state.message
    note = progress.note if progress is not None and progress.status == "failed" else ""
    return "failed", note or state.message


def _with_session(record: RunRecord, session: Session) -> RunRecord:
    """The record with `session` instead of the one with the same handle."""
    return replace(
        record, sessions=tuple(session if one.handle == session.handle else one for one in record.sessions)
    )


def branch_of(record: RunRecord) -> RunBranch | None:
    """The run's branch on the Hub, if it publishes there."""
    to = destination_of(record)
    if not isinstance(to, RepoRef):
        return None
    kernel = kernel_named(record.kernel)
    return RunBranch(to.repo_id, record.run_id, repo_type=kernel.repo_type, private=record.private)


def destination_of(record: RunRecord) -> Reference | None:
    """Where the run publishes, if anywhere."""
    return parse_reference(record.to) if record.to is not None else None


def kept_dir(record: RunRecord) -> Path:
    """Where this machine keeps what it downloaded of a run."""
    return records.runs_dir() / record.run_id / "output"


def _progress(record: RunRecord, target: Target, *, ended: bool) -> tuple[RunProgress | None, list[ChexError]]:
    """The newest progress that can be read, and why others could not."""
    folder, session = kept_dir(record), record.sessions[-1]
    found = [read_progress(folder, record.run_id)]
    unread: list[ChexError] = []
    settled = session.outcome is not None and found[0] is not None
    branch = branch_of(record)
    if branch is not None and not target.is_here and not settled:
        try:
            found.append(branch.progress())
        except ChexError as error:
            unread.append(error)
    if target.is_here or (ended and not settled):
        try:
            output = target.collect(session, folder, [PROGRESS_FILE])
            found.append(read_progress(output, record.run_id) if output is not None else None)
        except ChexError as error:
            unread.append(error)
    newest = None
    for progress in found:  # of those of the same second the one nearest to the session, which comes last
        if progress is not None and (newest is None or _age(progress) >= _age(newest)):
            newest = progress
    if newest is not None and newest != found[0]:
        write_text_atomic(folder / PROGRESS_FILE, newest.to_json())
    return newest, unread


def _age(progress: RunProgress) -> tuple[int, str]:
    return progress.session, progress.updated_at


def _failing_lines(target: Target, session: Session) -> tuple[str, ...]:
    try:
        text = "".join(target.log(session, follow=False))
    except ChexError:
        return ()
    lines = [line.rstrip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return tuple(lines[-_LAST_LINES:])
