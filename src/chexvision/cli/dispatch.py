"""`chexvision dispatch`: train, or build shards, on a machine elsewhere, or on this one in the same way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chexvision.cli.data.shard_options import MaxBad, Private, Seed, ShardSize, Size, dataset_name, parse_bytes
from chexvision.cli.names import DEFAULT_TARGET, Data, Force, Model, Overrides, Preset, PrivateModel, Where
from chexvision.cli.target_options import CommandWithTargets, GroupWithTargets, given_options
from chexvision.errors import UsageError
from chexvision_dispatch.targets.registry import flag, new_target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chexvision.config.recipe import Recipe
    from chexvision_dispatch.submit import Job, Prepared
    from chexvision_dispatch.targets.target import Target

app = typer.Typer(rich_markup_mode=None, cls=GroupWithTargets)

Watch = Annotated[
    bool | None, typer.Option("--watch/--detach", help="Show the log until it ends. [default: on this machine]")
]
AutoResume = Annotated[
    bool, typer.Option("--auto-resume", help="Watch, and start the next session when one reaches its limit.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Write what would be sent and send nothing.")]
Out = Annotated[Path | None, typer.Option(help="Folder that --dry-run writes. [default: runs/<run id>/kernel]")]


@dataclass(frozen=True, slots=True)
class Sending:
    """How a run is sent, whatever it computes; the options' own help describes each.

    `given` are the target's options that were typed, by name.
    """

    on: str
    given: Mapping[str, object]
    watch: bool | None
    auto_resume: bool
    dry_run: bool
    out: Path | None
    force: bool = False


@app.callback(invoke_without_command=True)
def train(
    context: typer.Context,
    model: Model = "",
    on: Where = DEFAULT_TARGET,
    data: Data = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="Where the artifact is published: USER/REPO, or on this machine a folder. "
            "[default: <you>/chexvision-<model>; on this machine: it stays in the run's folder]"
        ),
    ] = None,
    overrides: Overrides = None,
    preset: Preset = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="N",
            help="Train N models that differ in their seed, two at a time, and publish them as one ensemble. The "
            "same command continues.",
            show_default=False,
        ),
    ] = None,
    private: PrivateModel = False,
    force: Force = False,
    watch: Watch = None,
    auto_resume: AutoResume = False,
    dry_run: DryRun = False,
    out: Out = None,
) -> None:
    """Pack this source tree with a recipe and train it on free GPUs elsewhere, or on this machine."""
    given = given_options(context)
    if context.invoked_subcommand is not None:
        _refuse_options_before(context.invoked_subcommand, context)
        return
    if not model:
        raise UsageError("name what to train: --model densenet")
    if seeds is not None:
        if out is not None:
            raise UsageError("--out is the folder of one run; leave it out with --seeds")
        from chexvision.cli.sweep import train_ensemble
        from chexvision_dispatch.studies.study_file import seeds_study

        study = seeds_study(model, seeds, preset=preset, overrides=overrides or [], data=data, to=to)
        sending = Sending(on, given, watch, auto_resume, dry_run, out, force)
        train_ensemble(study, sending, data=data, to=to, private=private)
        return
    from chexvision.recipes import load_recipe
    from chexvision_dispatch import submit

    recipe = load_recipe(model, preset=preset, overrides=overrides or [])
    request = submit.Request(model, preset, overrides or [], data, to, private)
    sending = Sending(on, given, watch, auto_resume, dry_run, out, force)
    _send(recipe.name, lambda target: submit.training(request, recipe, target), sending, recipe)


@app.command("shards", cls=CommandWithTargets)
def shards(
    context: typer.Context,
    to: Annotated[str, typer.Option(metavar="USER/NAME", help="The dataset to push to, created if need be.")],
    on: Where = DEFAULT_TARGET,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the release on this machine: images and Data_Entry_2017*.csv.")
    ] = None,
    size: Size = 320,
    split: Annotated[
        str | None, typer.Option(help="official, patient, or a patient_id,split table.  [default: what fits]")
    ] = None,
    shard_size: ShardSize = "256MB",
    seed: Seed = 0,
    max_bad: MaxBad = 0.001,
    private: Private = False,
    watch: Watch = None,
    auto_resume: AutoResume = False,
    dry_run: DryRun = False,
    out: Out = None,
) -> None:
    """Build shards of the NIH release where a target has it, without a download, and push them to the Hub."""
    from chexvision_dispatch.build_request import building

    job = partial(
        building,
        to=dataset_name("--to", to).repo_id,
        images=images,
        size=size,
        split=split,
        shard_bytes=parse_bytes(shard_size),
        seed=seed,
        max_bad=max_bad,
        private=private,
    )
    _send("shards", job, Sending(on, given_options(context), watch, auto_resume, dry_run, out))


def _refuse_options_before(subcommand: str, context: typer.Context) -> None:
    sources = {name: context.get_parameter_source(name) for name in context.params}
    typed = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    typed += given_options(context)
    if typed:
        raise UsageError(f"write {flag(typed[0])} after {subcommand}, which has its own options")


def _send(name: str, job: Callable[[Target], Job], sending: Sending, recipe: Recipe | None = None) -> None:
    """Prepare a run called `name` and send it, as `sending` describes; `recipe` is what it trains, if it does."""
    from chexvision.provenance import new_run_id
    from chexvision_dispatch import submit
    from chexvision_dispatch.gpu_hours import gpu_hours
    from chexvision_dispatch.run_records import runs_dir
    from chexvision_dispatch.targets.target import GpuHours

    dry_run = sending.dry_run
    if sending.out is not None and not dry_run:
        raise UsageError("--out is where --dry-run writes; add --dry-run or leave it out")
    run_id = new_run_id(name)
    target = new_target(sending.on, sending.given, run_id, dry_run=dry_run)
    home = target.options.home or (Path("runs") if dry_run else runs_dir()) / run_id
    folder = sending.out or home / "kernel"

    prepared = submit.prepare(job(target), target, run_id, folder)
    checked = []
    if not dry_run:
        needs = None
        if recipe is not None:
            needs = replace(gpu_hours(recipe, target), force=sending.force) if target.has_quota else GpuHours()
        checked = target.check(needs)
    _describe(prepared, [*prepared.job.notes, *checked, *submit.write(prepared, target, folder)])
    if dry_run:
        typer.echo(f"dry run: nothing was sent; what would be is in {folder}")
        return
    record, notes = submit.submit(prepared, target, folder)
    for note in notes:
        typer.echo(f"note   {note}")
    page = record.sessions[-1].page
    if page:
        typer.echo(f"page   {page}")
    if sending.auto_resume or (target.computes_here if sending.watch is None else sending.watch):
        from chexvision.cli.runs import show_log

        show_log(record, sending.auto_resume)
    else:
        typer.echo(f"next   chexvision runs logs -f {run_id}, or close the laptop and type: chexvision runs status")


def _describe(prepared: Prepared, notes: list[str]) -> None:
    record = prepared.record
    changed = " with changes" if record.source_dirty else ""
    size = len(prepared.script.encode()) / 1024
    typer.echo(f"run    {record.run_id}")
    typer.echo(f"bundle {record.bundle_sha256[:12]} of {record.source_revision[:12]}{changed}, script {size:.0f} kB")
    typer.echo(f"data   {record.data}")
    if prepared.job.split is not None:
        typer.echo(f"split  {prepared.job.split}")
    typer.echo(f"to     {record.to or 'the output of the session'}")
    for note in notes:
        typer.echo(f"note   {note}")
