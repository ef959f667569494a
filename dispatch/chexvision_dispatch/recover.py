"""Recovering what a run's last session left where the next one does not reach it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from chexvision.errors import ChexError
from chexvision.runs.branch import RunBranch
from chexvision.runs.run_progress import PROGRESS_FILE, RunProgress, read_progress
from chexvision_dispatch.run_records import RunRecord, Session
from chexvision_dispatch.targets.target import Target
from chexvision_dispatch.view import RunView, branch_of, kept_dir


@dataclass(frozen=True, slots=True)
class State:
    """The state that the run's next session continues from.

    Args:
        folder: where it is on this machine; None where it did not have to be downloaded.
        what: how far it is and where, for the user.
        obstacle: why the next session would not reach it, and what to do; empty where it does.
    """

    folder: Path | None
    what: str
    obstacle: str = ""


def make_reachable(view: RunView, target: Target) -> list[str]:
    """Ensure that the run's next session continues from the latest state, before that session is started.

    Args:
        view: the run's status; its last session has ended.
        target: where the next session will run.

    Returns:
        What the user should know.

    Raises:
        ChexError: the next session would silently begin again, or the target or the Hub does not answer.
    """
    record, known = view.record, view.progress
    if not record.sessions or known is None or not known.state or target.passes_files_on(record.sessions[-1]):
        return []
    reached, left = _find(view, target)
    if left is None:
        if not reached:
            raise _lost(record, known)
        return [f"continuing from the state {reached}"]
    obstacle = _obstacle(record, target)
    if obstacle:
        raise ChexError(
            f"the state {_how_far(left)} is only in the output of the session that failed, which {target.name} gives "
            f"to no other session, and {obstacle}; to download it: chexvision runs collect {record.run_id}"
        )
    return [f"continuing from the state {_download(record, target, left).what}"]


def recover_state(view: RunView, target: Target) -> State:
    """Download the state that a run's last session left, and put it on the run's branch if that is read.

    Args:
        view: the run's status; its last session has ended, and some session saved a state.
        target: where it ran.

    Raises:
        ChexError: nothing is left, a file did not arrive, or the target or the Hub does not answer.
    """
    record, known = view.record, view.progress
    reached, left = _find(view, target)
    if left is not None:
        return _download(record, target, left)
    if not reached:
        raise _lost(record, known)
    return State(None, reached)


def is_out_of_reach(view: RunView, target: Target) -> bool:
    """Whether the run's next session would not reach the latest state, so that `make_reachable` refuses.

    Args:
        view: the run's status; its last session has ended.
        target: where the next session will run.

    Raises:
        ChexError: the target or the Hub does not answer.
    """
    record, known = view.record, view.progress
    if known is None or not known.state or target.passes_files_on(record.sessions[-1]):
        return False
    return _find(view, target)[1] is not None and bool(_obstacle(record, target))


def _find(view: RunView, target: Target) -> tuple[str, RunProgress | None]:
    """The latest state that the next session reaches, for the user; the last session's own, if that is later."""
    record, known, branch = view.record, view.progress, branch_of(view.record)
    reached, where = branch.progress() if branch is not None else None, "on the run's branch"
    if reached is not None and not reached.state:
        reached = None
    left = None
    if reached is None or (known is not None and _saved(reached) < (known.epoch, known.images_done)):
        attached_from = next((one for one in reversed(record.sessions[:-1]) if target.passes_files_on(one)), None)
        attached = _left_by(record, target, attached_from) if attached_from is not None else None
        if attached is not None and (reached is None or _saved(attached) > _saved(reached)):
            reached, where = attached, "in the output of an earlier session"
        left = _left_by(record, target, record.sessions[-1])
    if left is not None and reached is not None and _saved(left) <= _saved(reached):
        left = None
    return f"{_how_far(reached)}, {where}" if reached is not None else "", left


def _left_by(record: RunRecord, target: Target, session: Session) -> RunProgress | None:
    """The progress in a session's output, if it left a state there."""
    with tempfile.TemporaryDirectory() as folder:
        output = target.collect(session, Path(folder), [PROGRESS_FILE])
        left = read_progress(output, record.run_id) if output is not None else None
    return left if left is not None and left.state else None


def _download(record: RunRecord, target: Target, left: RunProgress) -> State:
    """Download a state from the last session's output."""
    folder = target.collect(record.sessions[-1], kept_dir(record), [PROGRESS_FILE, *left.state])
    missing = [name for name in left.state if folder is None or not (folder / name).is_file()]
    if folder is None or missing:
        raise ChexError(f"the session's output has no {missing[0]}, a part of its state: {record.sessions[-1].page}")
    branch, obstacle = branch_of(record), _obstacle(record, target)
    if branch is None or obstacle:
        return State(folder, f"{_how_far(left)}, in {folder}", obstacle)
    files: dict[str, Path | bytes] = {name: folder / name for name in left.state}
    branch.send(
        {PROGRESS_FILE: left.to_json().encode(), **files}, f"State {_how_far(left)}, from the session's output"
    )
    return State(folder, f"{_how_far(left)}, copied from the session's output to the run's branch")


def _obstacle(record: RunRecord, target: Target) -> str:
    """Why a next session would not read a state that was put on the run's branch; empty where it would."""
    branch = branch_of(record)
    if branch is None:
        return "the run publishes to no Hub repository, whose branch the next session could read it from"
    if not has_hub_token():
        return "this machine has no Hub token to put it on the run's branch with (hf auth login)"
    if not reads_branch(branch, target):
        return "its sessions have no Hub token to read the run's branch with (chexvision credentials sync)"
    return ""


def reads_branch(branch: RunBranch, target: Target) -> bool:
    """Whether sessions on `target` read the run's branch.

    Raises:
        ChexError: the Hub does not answer.
    """
    # What is on a branch was written by a session with a token, or from here because the next session has one.
    return target.has_token or branch.progress() is not None


def has_hub_token() -> bool:
    """Whether this machine has a Hub token."""
    from huggingface_hub import get_token

    return get_token() is not None


def _lost(record: RunRecord, known: RunProgress | None) -> ChexError:
    reached = f", which was saved {_how_far(known)}," if known is not None else ""
    return ChexError(f"nothing is left of the state of {record.run_id}{reached} to continue from; dispatch a new run")


def _saved(progress: RunProgress) -> tuple[int, int]:
    """How far the state next to a progress is."""
    return progress.state_epoch, progress.images_done


def _how_far(progress: RunProgress) -> str:
    if progress.images is not None:
        return f"with {progress.images_done:,} of {progress.images:,} images"
    return f"after epoch {_saved(progress)[0]}"
