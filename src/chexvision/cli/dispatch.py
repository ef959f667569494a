"""`chexvision dispatch`: train on a GPU elsewhere, or on this machine in the same way."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chexvision.errors import UsageError

if TYPE_CHECKING:
    from chexvision_dispatch.submit import Prepared
    from chexvision_dispatch.target import Target


class On(StrEnum):
    """The targets by name."""

    KAGGLE = "kaggle"
    LOCAL = "local"


_ACCELERATOR = "NvidiaTeslaT4"
_HOURS = 12.0


def dispatch(
    model: Annotated[str, typer.Option(help="Recipe by name, such as densenet, or a YAML file.")],
    on: Annotated[On, typer.Option(help="Where to train.")] = On.KAGGLE,
    data: Annotated[
        str | None,
        typer.Option(
            help="Dataset USER/NAME[@REVISION], or (--on local) a folder of shards. [default: the recipe's]"
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="Where the artifact is published: USER/REPO, or (--on local) a folder. "
            "[default on Kaggle: <you>/chexvision-<model>; locally: it stays in the run's folder]"
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one value of the recipe; repeatable.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Partial recipe laid over it, such as smoke.")] = None,
    token_dataset: Annotated[
        str | None,
        typer.Option(
            metavar="OWNER/SLUG", help="Private Kaggle dataset whose hf_token.txt is the session's Hub token."
        ),
    ] = None,
    accelerator: Annotated[
        str, typer.Option(help="Kaggle's name for the hardware; this one is two T4s.")
    ] = _ACCELERATOR,
    timeout_hours: Annotated[float, typer.Option(help="When Kaggle cuts the session; at most 12.")] = _HOURS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write what would be sent and send nothing.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder that --dry-run writes. [default: runs/<run id>/kernel]")
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Folder of a run with --on local. [default: runs/<run id>]")
    ] = None,
) -> None:
    """Pack this source tree with a recipe and train it on Kaggle's GPUs, or on this machine."""
    from chexvision.provenance import new_run_id
    from chexvision.recipes import load_recipe
    from chexvision_dispatch import records, submit

    recipe = load_recipe(model, preset=preset, overrides=overrides or [])
    if out is not None and not dry_run:
        raise UsageError("--out is where --dry-run writes; add --dry-run or leave it out")
    if run_dir is not None and on is not On.LOCAL:
        raise UsageError("--run-dir is the folder of a run on this machine; add --on local or leave it out")
    run_id = new_run_id(recipe.name)
    home = run_dir or Path("runs") / run_id
    if on is On.LOCAL:
        _refuse_kaggle_options(token_dataset, accelerator, timeout_hours)
        if not dry_run and home.exists() and (not home.is_dir() or any(home.iterdir())):
            raise UsageError(f"--run-dir {home} is not empty; name a new folder")
    kept = home / "kernel" if dry_run or on is On.LOCAL else records.runs_dir() / run_id
    folder = out or kept
    target = _target(on, home.resolve(), accelerator, timeout_hours, token_dataset, dry_run=dry_run)

    request = submit.Request(model, preset, overrides or [], data, to)
    prepared = submit.prepare(request, recipe, target, run_id, folder)
    if not dry_run:
        target.check()
    notes = submit.write(prepared, target, folder)
    _describe(prepared, notes)
    if dry_run:
        typer.echo(f"dry run: nothing was sent; what would be is in {folder}")
        return
    record = submit.submit(prepared, target, folder)
    exit_code = record.sessions[-1].exit_code
    if exit_code:
        raise typer.Exit(exit_code)


def _refuse_kaggle_options(token_dataset: str | None, accelerator: str, timeout_hours: float) -> None:
    if token_dataset is not None:
        raise UsageError("--token-dataset is for Kaggle; here the token of HF_TOKEN or of `hf auth login` is used")
    if accelerator != _ACCELERATOR or timeout_hours != _HOURS:
        raise UsageError("--accelerator and --timeout-hours are for Kaggle; leave them out with --on local")


def _target(
    on: On, run_dir: Path, accelerator: str, timeout_hours: float, token_dataset: str | None, *, dry_run: bool
) -> Target:
    if on is On.LOCAL:
        from chexvision_dispatch.local import Local

        return Local(run_dir)
    from chexvision_dispatch.kaggle import Kaggle

    return Kaggle(accelerator, timeout_hours, token_dataset, dry_run=dry_run)


def _describe(prepared: Prepared, notes: list[str]) -> None:
    record = prepared.record
    changed = " with changes" if record.source_dirty else ""
    size = len(prepared.script.encode()) / 1024
    typer.echo(f"run    {record.run_id}")
    typer.echo(f"bundle {record.bundle_sha256[:12]} of {record.source_revision[:12]}{changed}, script {size:.0f} kB")
    typer.echo(f"data   {record.data}")
    typer.echo(f"to     {record.to or 'the output of the session'}")
    for note in notes:
        typer.echo(f"note   {note}")
