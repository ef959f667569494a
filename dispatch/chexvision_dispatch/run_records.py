"""Runs as this machine records them: one JSON file each under the user's state folder, without any secret."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

import platformdirs
from pydantic import TypeAdapter, ValidationError

from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import read_regular, write_text_atomic
from chexvision.files.json_files import first_problem

FORMAT = 1
_LARGEST = 2**24  # bytes of a record

Option = str | int | float | bool | None
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Session:
    """One execution of a run on its target.

    Args:
        started_at: when it was submitted, ISO 8601 in UTC.
        handle: how the target identifies it: ``OWNER/SLUG`` on Kaggle, the process id here.
        page: its web page, if it has one.
        exit_code: how its script ended, where that is known.
        outcome: how it ended, once that was seen: "complete", "paused", "failed" or "cancelled".
    """

    started_at: str
    handle: str
    page: str | None = None
    exit_code: int | None = None
    outcome: str | None = None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One dispatch: what was requested, from which bytes, and where it was sent.

    Args:
        run_id: such as ``densenet-20260101-1432-3f9c``.
        target: the name of where it runs, such as "kaggle".
        model: the recipe, as it was requested; None where nothing is trained.
        preset: the preset merged into it.
        overrides: the ``a.b=c`` texts.
        data: ``USER/NAME@<sha>``, a folder's absolute path, or the Kaggle dataset that shards are built from.
        to: ``USER/REPO`` or a folder's absolute path; None where the artifact stays in the session's output.
        dispatched_at: ISO 8601 in UTC.
        bundle_sha256: of the packed source.
        source_revision: commit or version that was packed.
        source_dirty: whether files differed from that commit.
        folder: where the script is kept for the run's next session.
        kernel: the folder of ``kernels/`` that it runs.
        private: whether what it makes is visible to its owner alone.
        options: of the target, such as its accelerator; no secret is among them.
        published: where the artifact was published, once that was seen.
        sessions: executions in order; empty while a submission is unanswered.
        script_sha256: of the script; None in records of before it was kept.
        format: of the record's file.
    """

    run_id: str
    target: str
    model: str | None
    preset: str | None
    overrides: tuple[str, ...]
    data: str
    to: str | None
    dispatched_at: str
    bundle_sha256: str
    source_revision: str
    source_dirty: bool
    folder: str
    kernel: str = "train"
    private: bool = False
    options: Mapping[str, Option] = field(default_factory=dict)
    published: str | None = None
    sessions: tuple[Session, ...] = ()
    script_sha256: str | None = None
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class _Head:
    format: int = FORMAT


@cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(kind)  # built when it is needed: that takes longer than `--help` may


def runs_dir() -> Path:
    """The folder of all records: ``runs`` below ``CHEXVISION_STATE`` or the user's state folder."""
    chosen = os.environ.get("CHEXVISION_STATE")
    return (Path(chosen) if chosen else platformdirs.user_state_path("chexvision")) / "runs"


def save(record: RunRecord) -> Path:
    """Write a record atomically, replacing an earlier one of the same run."""
    path = runs_dir() / f"{record.run_id}.json"
    write_text_atomic(path, _adapter(RunRecord).dump_json(record, indent=2).decode() + "\n")
    return path


def load(run_id: str) -> RunRecord:
    """Read the record of a run.

    Raises:
        ChexError: there is none, it cannot be read, or it is another run's.
    """
    path = runs_dir() / f"{run_id}.json"
    try:
        text = read_regular(path, _LARGEST)
        found = _adapter(_Head).validate_json(text).format
        if found != FORMAT:  # first: another format may have other fields
            raise ChexError(f"the record {path} has format {found}, this version reads {FORMAT}; update chexvision")
        record: RunRecord = _adapter(RunRecord).validate_json(text)
    except FileNotFoundError:
        raise ChexError(f"no run {run_id} in {path.parent}") from None
    except OSError as error:
        raise ChexError(f"the record {path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise ChexError(f"the record {path} is damaged: {first_problem(error)}") from None
    if record.run_id != run_id:  # it names the files that are written for the run
        raise ChexError(f"the record {path} is damaged: run_id {record.run_id!r} is not the file's name")
    return record


def update(run_id: str, change: Callable[[RunRecord], RunRecord]) -> RunRecord:
    """Read a record, change it and write it back, under a lock; returns what was written.

    Raises:
        ChexError: there is no such record, or it cannot be read.
    """
    from filelock import FileLock

    runs_dir().mkdir(parents=True, exist_ok=True)
    with FileLock(runs_dir().with_name("runs.lock")):
        record = change(load(run_id))
        save(record)
    return record


def add_session(record: RunRecord, session: Session) -> RunRecord:
    """Record that a session of the run was started; returns the record with it."""
    return update(record.run_id, lambda known: replace(known, sessions=(*known.sessions, session)))


def every(on_damaged: Callable[[ChexError], object]) -> list[RunRecord]:
    """All records that can be read, the one dispatched last at the end.

    Args:
        on_damaged: called with why another one cannot be read.
    """
    records = []
    for path in sorted(runs_dir().glob("*.json")):
        try:
            records.append(load(path.stem))
        except ChexError as error:
            on_damaged(error)
    return sorted(records, key=lambda record: (record.dispatched_at, record.run_id))


def find(prefix: str | None) -> RunRecord:
    """The one run whose id begins with `prefix`; the last one dispatched where there is none.

    Raises:
        UsageError: no run or several begin like that, or it is not known which one is the last.
        ChexError: the record cannot be read.
    """
    if prefix is None:
        damaged: list[ChexError] = []
        known = every(damaged.append)
        if damaged:  # it may be the last one, and a command must not act on another run in its place
            raise UsageError(f"name the run, or delete what cannot be read: {damaged[0]}")
        if not known:
            raise UsageError("there is no run yet; start one with: chexvision dispatch --model densenet")
        return known[-1]
    ids = sorted(path.stem for path in runs_dir().glob("*.json") if path.stem.startswith(prefix))
    if prefix in ids:
        return load(prefix)
    if len(ids) > 1:
        listed = ", ".join(ids[:5]) + (" …" if len(ids) > 5 else "")
        raise UsageError(f"{len(ids)} runs begin with {prefix!r}: {listed}; type more characters of the id")
    if not ids:
        raise UsageError(f"no run begins with {prefix!r}; `chexvision runs list` shows them")
    return load(ids[0])


def forget(run_id: str) -> None:
    """Delete a run's record; nothing happens where there is none."""
    (runs_dir() / f"{run_id}.json").unlink(missing_ok=True)
