"""A dispatch from what was asked for to a running session."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from chexvision.config import Recipe
from chexvision.errors import UsageError
from chexvision.provenance import now, source_revision
from chexvision_dispatch import records
from chexvision_dispatch.bundle import Bundle, pack
from chexvision_dispatch.kernels import TRAIN, Kernel
from chexvision_dispatch.records import RunRecord
from chexvision_dispatch.resolve import destination, pinned_data, travelling_recipe
from chexvision_dispatch.script import SCRIPT_NAME, render
from chexvision_dispatch.target import NotAsRequested, Refused, Target


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked to train, in their own words; `data` None is the recipe's own dataset."""

    model: str
    preset: str | None
    overrides: Sequence[str]
    data: str | None
    to: str | None


@dataclass(frozen=True, slots=True)
class Job:
    """What a session is to do, made exact.

    Args:
        kernel: the kind of work.
        arguments: words after ``chexvision``; see `render`.
        files: what the bundle holds beside the source, by path.
        data: see `RunRecord`, as is `to`.
        request: what was asked for, where it is training.
        private: whether what it makes is to be its owner's alone.
    """

    kernel: Kernel
    arguments: list[str]
    files: Mapping[str, bytes]
    data: str
    to: str | None
    request: Request | None = None
    private: bool = False


def training(request: Request, recipe: Recipe, target: Target) -> Job:
    """The job that trains.

    Args:
        request: what was asked for.
        recipe: the same, read and validated.
        target: where it is to run.

    Raises:
        ChexError: see `pinned_data` and `destination`.
    """
    travelling = travelling_recipe(recipe, request.model, request.preset, request.overrides)
    data = pinned_data(request.data or recipe.data.dataset, folders=target.reads_folders)
    to = destination(request.to, request.model, folders=target.reads_folders)
    return Job(TRAIN, ["train", *travelling.arguments, "--data", data], travelling.files, data, to, request)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that is ready to be sent: its record, its script and what the script holds."""

    record: RunRecord
    script: str
    bundle: Bundle


def prepare(
    job: Job,
    target: Target,
    run_id: str,
    folder: Path,
    options: Mapping[str, records.Option],
) -> Prepared:
    """Pack and render a run. Nothing is written.

    Args:
        job: what it is to do.
        target: where it is to run.
        run_id: its name.
        folder: where its script is to lie.
        options: what `target` was made with, for the run's next sessions.

    Raises:
        ChexError: see `pack` and `render`.
    """
    bundle, source, asked = pack(job.files), source_revision(), job.request
    record = RunRecord(
        run_id=run_id,
        target=target.name,
        model=asked.model if asked else None,
        preset=asked.preset if asked else None,
        overrides=tuple(asked.overrides) if asked else (),
        data=job.data,
        to=job.to,
        dispatched_at=now(),
        bundle_sha256=bundle.sha256,
        source_revision=source.revision,
        source_dirty=source.dirty,
        folder=str(folder.resolve()),
        kernel=job.kernel.name,
        private=job.private,
        options=options,
    )
    return Prepared(record, render(record, job.arguments, bundle, target.max_hours), bundle)


def write(prepared: Prepared, target: Target, folder: Path) -> list[str]:
    """Write the folder that is sent, whole or not at all; returns what the user should know.

    Raises:
        UsageError: the folder exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty; name a new folder")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        (partial / SCRIPT_NAME).write_text(prepared.script, encoding="utf-8")
        notes = target.prepare(prepared.record, partial)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return notes


def submit(prepared: Prepared, target: Target, folder: Path) -> RunRecord:
    """Send a written run; the record stands before anything is sent.

    Raises:
        ChexError: see `Target.start`; where nothing was taken, no record and no folder are left.
    """
    records.save(prepared.record)
    try:
        session = target.start(prepared.record, folder)
    except NotAsRequested as error:
        started = error.session
        records.update(prepared.record.run_id, lambda record: replace(record, sessions=(started,)))
        raise
    except Refused:
        records.forget(prepared.record.run_id)
        shutil.rmtree(folder)
        with suppress(OSError):
            folder.parent.rmdir()  # holds something else
        raise
    return records.update(prepared.record.run_id, lambda record: replace(record, sessions=(session,)))
