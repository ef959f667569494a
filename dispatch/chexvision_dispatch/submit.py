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
from chexvision_dispatch.records import RunRecord
from chexvision_dispatch.resolve import destination, pinned_data, travelling_recipe
from chexvision_dispatch.script import SCRIPT_NAME, render
from chexvision_dispatch.target import Refused, Target


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for, in their own words; `data` None is the recipe's own dataset."""

    model: str
    preset: str | None
    overrides: Sequence[str]
    data: str | None
    to: str | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that is ready to be sent: its record, its script and what the script holds."""

    record: RunRecord
    script: str
    bundle: Bundle


def prepare(
    request: Request,
    recipe: Recipe,
    target: Target,
    run_id: str,
    folder: Path,
    options: Mapping[str, records.Option],
) -> Prepared:
    """Pin, pack and render a run. Nothing is written.

    Args:
        request: what was asked for.
        recipe: the same, read and validated.
        target: where it is to run.
        run_id: its name.
        folder: where its script is to lie.
        options: what `target` was made with, for the run's next sessions.

    Raises:
        ChexError: see `pinned_data`, `destination`, `pack` and `render`.
    """
    travelling = travelling_recipe(recipe, request.model, request.preset, request.overrides)
    data = pinned_data(request.data or recipe.data.dataset, folders=target.reads_folders)
    to = destination(request.to, request.model, folders=target.reads_folders)
    bundle, source = pack(travelling.files), source_revision()
    record = RunRecord(
        run_id=run_id,
        target=target.name,
        model=request.model,
        preset=request.preset,
        overrides=tuple(request.overrides),
        data=data,
        to=to,
        dispatched_at=now(),
        bundle_sha256=bundle.sha256,
        source_revision=source.revision,
        source_dirty=source.dirty,
        folder=str(folder.resolve()),
        options=options,
    )
    arguments = ["train", *travelling.arguments, "--data", data]
    return Prepared(record, render(record, arguments, bundle, target.max_hours), bundle)


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
    except Refused:
        records.forget(prepared.record.run_id)
        shutil.rmtree(folder)
        with suppress(OSError):
            folder.parent.rmdir()  # holds something else
        raise
    return records.update(prepared.record.run_id, lambda record: replace(record, sessions=(session,)))
