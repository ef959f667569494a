"""Downloading a run's artifact and publishing it from this machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from chexvision.artifact.contents import CARD, REQUIRED
from chexvision.artifact.store import open_store
from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import sha256_of, write_text_atomic
from chexvision.hub.reference import Reference, RepoRef, parse_reference
from chexvision.provenance import now
from chexvision.report.model_card import with_destination
from chexvision.runs.branch import RunBranch
from chexvision.runs.run_progress import PROGRESS_FILE, RunProgress, read_progress
from chexvision_dispatch import run_records as records
from chexvision_dispatch.kernels import SHARDS, kernel_named
from chexvision_dispatch.recover import State, recover_state
from chexvision_dispatch.run_records import RunRecord
from chexvision_dispatch.view import branch_of, destination_of, kept_dir, poll, target_of


@dataclass(frozen=True, slots=True)
class Collected:
    """What `collect` did.

    Args:
        folder: the verified artifact on this machine; None where it was published before.
        published: where it can be had, ``USER/NAME@<sha>`` or a folder; None where it was to stay here.
        notes: what the user should know.
        state: of a run that failed, the state to continue from; `folder` and `published` are None then.
    """

    folder: Path | None
    published: str | None
    notes: tuple[str, ...] = ()
    state: State | None = None


def collect(record: RunRecord, to: str | None) -> Collected:
    """Download the artifact of a complete run, verify it, publish it as the session would have, and close the run.

    Of a run that failed or was cancelled, the saved state is downloaded instead, and put on the run's branch.

    Args:
        record: the run.
        to: USER/REPO or a folder; the run's own destination where left out.

    Raises:
        UsageError: the run is not complete, and has no state that would have to be downloaded.
        ChexError: what was downloaded is not what the session left, or publishing failed; see
            `ArtifactStore.publish`.
    """
    view = poll(record)
    if view.status in ("failed", "cancelled") and view.progress is not None and view.progress.state:
        return Collected(None, None, state=recover_state(view, target_of(record)))
    if view.status not in ("complete", "unpublished"):
        hint = "resume" if view.ended else "wait"
        raise UsageError(f"{record.run_id} is {view.status}, not complete: chexvision runs {hint} {record.run_id}")
    destination = parse_reference(to) if to is not None else destination_of(record)
    kernel = kernel_named(record.kernel)
    before = _published_before(view.record, destination)
    if before is not None:
        return Collected(None, before, _close(record, view.progress, before))
    folder = target_of(record).collect(record.sessions[-1], kept_dir(record), [PROGRESS_FILE, f"{kernel.output}/"])
    if folder is None:
        raise ChexError(
            f"{record.target} keeps no output; resume the run, which publishes again: "
            f"chexvision runs resume {record.run_id}"
        )
    made = folder / kernel.output
    if kernel is SHARDS:
        published: str | None = _push(made, destination, private=record.private)
    else:
        progress = read_progress(folder, record.run_id)
        _verify(made, progress)
        _drop_leftovers(made, progress)
        published = _publish(made, record, destination)
    notes = _close(record, read_progress(folder, record.run_id), published) if published is not None else ()
    return Collected(made, published, notes)


def _close(record: RunRecord, progress: RunProgress | None, published: str) -> tuple[str, ...]:
    """Record wherever the run's status is read that it is published, and free the storage of its state.

    Returns:
        What could not be done; the artifact is published nevertheless.
    """
    from huggingface_hub import get_token

    records.update(record.run_id, lambda known: replace(known, published=published))
    if progress is None:
        return ()
    closed = progress.model_copy(update={"published": published, "note": "", "updated_at": now()})
    write_text_atomic(kept_dir(record) / PROGRESS_FILE, closed.to_json())
    branch = branch_of(record)
    if branch is None or get_token() is None:
        return ()
    try:
        # A session without a token left no branch, and one that published has settled its own.
        known = branch.progress()
        if known is not None and (known.published is None or known.state):
            branch.settle(closed)
    except ChexError as error:
        return (f"the branch {branch.name} could not be closed: {error}",)
    return ()


def _published_before(record: RunRecord, destination: Reference | None) -> str | None:
    if not isinstance(destination, RepoRef):
        return None
    if record.kernel == SHARDS.name:
        there = record.published is not None and record.published.startswith(f"{destination.repo_id}@")
        return record.published if there else None
    commit = RunBranch(destination.repo_id, record.run_id).published_at()
    return f"{destination.repo_id}@{commit}" if commit is not None else None


def _push(shards: Path, destination: Reference | None, *, private: bool) -> str:
    from chexvision.shards.push import push_shards

    if not isinstance(destination, RepoRef):
        raise UsageError(f"the shards are in {shards}; name a dataset to push them to: --to USER/NAME")
    return str(push_shards(shards, destination.repo_id, private=private))


def _publish(artifact: Path, record: RunRecord, destination: Reference | None) -> str | None:
    if destination is None:
        return None
    card = artifact / CARD
    write_text_atomic(card, with_destination(card.read_text(encoding="utf-8"), destination, record.run_id))
    return open_store(destination, private=record.private).publish(artifact, record.run_id).reference


def _drop_leftovers(artifact: Path, progress: RunProgress | None) -> None:
    """Delete what an earlier collect of the same run downloaded and the session's artifact does not have."""
    if progress is None or not progress.artifact:
        return
    for path in sorted(artifact.rglob("*")):
        if path.is_file() and path.relative_to(artifact).as_posix() not in progress.artifact:
            path.unlink()


def _verify(artifact: Path, progress: RunProgress | None) -> None:
    """Check that every file is there and as the session left it."""
    missing = [name for name in REQUIRED if not (artifact / name).is_file()]
    if missing:
        raise ChexError(f"the session left no {missing[0]} in its artifact; read its log: chexvision runs logs")
    for name, sha256 in sorted((progress.artifact if progress else {}).items()):
        if name == CARD:  # an earlier attempt may have named the destination in it
            continue
        path = artifact / name
        if not path.is_file() or sha256_of(path) != sha256:
            raise ChexError(f"{path} differs from the session's output; repeat the command to download it again")
