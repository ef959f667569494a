"""`chexvision dispatch`: train on a GPU elsewhere, or on this machine in the same way."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chexvision.errors import UsageError

if TYPE_CHECKING:
    from chexvision_dispatch.records import Option
    from chexvision_dispatch.submit import Prepared


class On(StrEnum):
    """The targets by name."""

    KAGGLE = "kaggle"
    LOCAL = "local"
    HF_JOBS = "hf-jobs"


_ACCELERATOR = "NvidiaTeslaT4"
_HOURS = 12.0
_FLAVOR = "t4-small"


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
    timeout_hours: Annotated[
        float | None,
        typer.Option(help="When the session is cut; the run pauses before. At most 12 on Kaggle. [default: 12]"),
    ] = None,
    docker_image: Annotated[
        str | None, typer.Option(help="Pin the session's image: one of Kaggle's own, or (hf-jobs) any with torch.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Show Kaggle's kernel to everybody.")] = False,
    flavor: Annotated[str, typer.Option(help="Hardware of a Hugging Face job.")] = _FLAVOR,
    max_hours: Annotated[
        float | None, typer.Option(help="(--on local) Save the state and pause after so many hours.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Dispatch even if the GPU quota will not last.")] = False,
    watch: Annotated[
        bool | None,
        typer.Option("--watch/--detach", help="Show the log until it ends. [default: with --on local]"),
    ] = None,
    auto_resume: Annotated[
        bool, typer.Option("--auto-resume", help="Watch, and start the next session when one reaches its limit.")
    ] = False,
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
    from chexvision_dispatch.estimate import gpu_hours
    from chexvision_dispatch.targets import open_target

    recipe = load_recipe(model, preset=preset, overrides=overrides or [])
    if out is not None and not dry_run:
        raise UsageError("--out is where --dry-run writes; add --dry-run or leave it out")
    if run_dir is not None and on is not On.LOCAL:
        raise UsageError("--run-dir is the folder of a run on this machine; add --on local or leave it out")
    run_id = new_run_id(recipe.name)
    home = run_dir or Path("runs") / run_id
    if on is On.LOCAL and not dry_run and home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise UsageError(f"--run-dir {home} is not empty; name a new folder")
    kaggle: dict[str, Option] = {"token_dataset": token_dataset, "accelerator": accelerator, "public": public}
    options = _options(on, home, kaggle, timeout_hours, docker_image, flavor, max_hours)
    kept = home / "kernel" if dry_run or on is On.LOCAL else records.runs_dir() / run_id / "kernel"
    folder = out or kept
    target = open_target(on, {**options, "dry_run": True} if dry_run and on is On.KAGGLE else options)

    request = submit.Request(model, preset, overrides or [], data, to)
    prepared = submit.prepare(request, recipe, target, run_id, folder, options)
    notes = [] if dry_run else target.check(None if force else gpu_hours(recipe))
    notes += submit.write(prepared, target, folder)
    _describe(prepared, notes)
    if dry_run:
        typer.echo(f"dry run: nothing was sent; what would be is in {folder}")
        return
    record = submit.submit(prepared, target, folder)
    page = record.sessions[-1].page
    if page:
        typer.echo(f"page   {page}")
    if auto_resume or (on is On.LOCAL if watch is None else watch):
        from chexvision.cli.runs import show_log

        show_log(record, auto_resume)
    else:
        typer.echo(f"next   chexvision runs logs -f {run_id}, or close the laptop and type: chexvision runs status")


def _options(
    on: On,
    home: Path,
    kaggle: dict[str, Option],
    timeout_hours: float | None,
    docker_image: str | None,
    flavor: str,
    max_hours: float | None,
) -> dict[str, Option]:
    """What the target is made with; an option of another target is refused, not ignored."""
    if on is not On.KAGGLE:
        if kaggle["token_dataset"] is not None:
            raise UsageError(
                "--token-dataset is for Kaggle; here the token of HF_TOKEN or of `hf auth login` is used"
            )
        if kaggle["accelerator"] != _ACCELERATOR or kaggle["public"]:
            raise UsageError(f"--accelerator and --public are for Kaggle; leave them out with --on {on}")
    if on is not On.HF_JOBS and flavor != _FLAVOR:
        raise UsageError(f"--flavor is for Hugging Face Jobs; leave it out with --on {on}, or add --on hf-jobs")
    if on is On.LOCAL:
        if timeout_hours is not None or docker_image is not None:
            raise UsageError("--timeout-hours and --docker-image are for Kaggle and hf-jobs; here take --max-hours")
        if max_hours is not None and max_hours <= 0:
            raise UsageError(f"--max-hours {max_hours:g} must be above 0")
        return {"run_dir": str(home.resolve()), "max_hours": max_hours}
    if max_hours is not None:
        raise UsageError("--max-hours is for --on local; elsewhere it follows from --timeout-hours")
    hours = _HOURS if timeout_hours is None else timeout_hours
    if on is On.HF_JOBS:
        return {"flavor": flavor, "timeout_hours": hours, "image": docker_image}
    from chexvision_dispatch.credentials import remembered_dataset

    dataset = kaggle["token_dataset"] or remembered_dataset()
    return {**kaggle, "token_dataset": dataset, "timeout_hours": hours, "docker_image": docker_image}


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
