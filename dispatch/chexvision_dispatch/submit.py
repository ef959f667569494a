"""A dispatch, from the request to a running session."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from chexvision.config.recipe import Recipe
from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic_folder import atomic_folder
from chexvision.hub.hub_errors import NotAllowed
from chexvision.hub.reference import RepoRef, parse_reference
from chexvision.hub.repository import create_repository
from chexvision.provenance import now, source_revision
from chexvision.retry import status_of
from chexvision_dispatch import run_records as records
from chexvision_dispatch.bundle import pack
from chexvision_dispatch.kernels import TRAIN, Kernel, kernel_named
from chexvision_dispatch.resolve import (
    RECIPE_NAME,
    check_datasets,
    destination,
    on_datasets,
    pinned_datasets,
    reachable_weights,
    recipe_files,
    with_pinned_teacher,
)
from chexvision_dispatch.run_records import RunRecord
from chexvision_dispatch.script import SCRIPT_NAME, render
from chexvision_dispatch.targets.target import NotAsRequested, Refused, Target


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked to train, in their own words; `data` None is the recipe's own dataset.

    `private` is whether a repository that has to be created is visible to its owner alone.
    """

    model: str
    preset: str | None
    overrides: Sequence[str]
    data: str | None
    to: str | None
    private: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """What a session will do, resolved.

    Args:
        kernel: the kind of work.
        arguments: words after ``chexvision``; see `render`.
        files: what the bundle contains next to the source, by path.
        data: see `RunRecord`, as is `to`.
        request: the request, where it is training.
        private: whether what it makes is visible to its owner alone.
        split: how the images will be divided, for a person.
        notes: what the user should know.
    """

    kernel: Kernel
    arguments: list[str]
    files: Mapping[str, bytes]
    data: str
    to: str | None
    request: Request | None = None
    private: bool = False
    split: str | None = None
    notes: tuple[str, ...] = ()


def training(request: Request, recipe: Recipe, target: Target) -> Job:
    """The job that trains.

    Args:
        request: what was asked for.
        recipe: the same, read and validated.
        target: where it is to run.

    Raises:
        UsageError: a folder was to be private; see `reachable_weights`.
        ChexError: see `pinned_data` and `destination`.
    """
    recipe, weights_notes = reachable_weights(recipe, folders=target.is_here)
    recipe, teacher_notes = with_pinned_teacher(recipe, folders=target.is_here)
    asked = [one.name for one in recipe.data.named] if request.data is None else [request.data]
    data, notes = pinned_datasets(asked, folders=target.is_here)
    if recipe.data.datasets:  # of one data set the recipe stays as it is, and the argument counts
        recipe = on_datasets(recipe, data)
    split = check_datasets(recipe, data)
    to = destination(request.to, request.model, folders=target.is_here)
    if request.private and (to is None or not isinstance(parse_reference(to), RepoRef)):
        raise UsageError("--private is for a repository on the Hub: name one with --to USER/REPO, or leave it out")
    private = ["--private"] if request.private else []
    return Job(
        TRAIN,
        ["train", "--recipe", f"{{bundle}}/{RECIPE_NAME}", *(["--data", *data] if len(data) == 1 else []), *private],
        recipe_files(recipe),
        " + ".join(data),
        to,
        request,
        private=request.private,
        split=split,
        notes=(*notes, *weights_notes, *teacher_notes),
    )


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that is ready to be sent: its job, its record and the script that is sent."""

    job: Job
    record: RunRecord
    script: str


def prepare(job: Job, target: Target, run_id: str, folder: Path) -> Prepared:
    """Pack and render a run. Nothing is written.

    Args:
        job: what it is to do.
        target: where it is to run.
        run_id: its name.
        folder: where its script will be.

    Raises:
        ChexError: see `pack` and `render`.
    """
    bundle, asked = pack(job.files), job.request
    revision, dirty = source_revision()
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
        source_revision=revision,
        source_dirty=dirty,
        folder=str(folder.resolve()),
        kernel=job.kernel.name,
        private=job.private,
        options=target.options.model_dump(mode="json"),
    )
    requested = [*(["GPU"] if job.kernel.process_per_gpu else []), "internet"] if target.may_withhold else []
    script = render(record, job.arguments, bundle, target.max_hours, requested)
    record = replace(record, script_sha256=hashlib.sha256(script.encode()).hexdigest())
    return Prepared(job, record, script)


def write(prepared: Prepared, target: Target, folder: Path) -> list[str]:
    """Write the folder that is sent atomically; returns what the user should know.

    Raises:
        UsageError: the folder exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty; name a new folder")
    with atomic_folder(folder) as partial:
        (partial / SCRIPT_NAME).write_text(prepared.script, encoding="utf-8")
        notes = target.prepare(prepared.record, partial)
    return notes


def create_destination(record: RunRecord) -> list[str]:
    """Create the repository that a run publishes to, which a session's token for that repository alone may not.

    Without a Hub token on this machine nothing is done: the session's may have the right.

    Returns:
        What the user should know.

    Raises:
        ChexError: the Hub does not accept the token or does not answer, or the repository is public where it was to
            be private.
    """
    from huggingface_hub import get_token

    to = parse_reference(record.to) if record.to is not None else None
    if not isinstance(to, RepoRef) or get_token() is None:
        return []
    try:
        create_repository(to.repo_id, kernel_named(record.kernel).repo_type, private=record.private)
    except NotAllowed as error:
        if status_of(error) != 403:
            raise
        return [f"on this machine {error}; or use a session token with that permission"]
    return []


def submit(prepared: Prepared, target: Target, folder: Path) -> tuple[RunRecord, list[str]]:
    """Send a written run, creating its destination first; the record is written before anything is sent.

    Returns:
        The record with the session, and what the user should know.

    Raises:
        ChexError: see `create_destination` and `Target.start`; where nothing was accepted, no record and no folder
            are left, and the repository stays, empty, for the next dispatch.
    """
    record = prepared.record
    try:
        notes = create_destination(record)
    except ChexError:
        _discard(folder)
        raise
    records.save(record)
    try:
        session = target.start(record, folder)
    except NotAsRequested as error:
        records.add_session(record, error.session)
        raise
    except Refused:
        records.forget(record.run_id)
        _discard(folder)
        raise
    return records.add_session(record, session), notes


def _discard(folder: Path) -> None:
    shutil.rmtree(folder)
    with suppress(OSError):
        folder.parent.rmdir()  # holds something else
