"""`chexvision dispatch`: train, or build shards, on a machine elsewhere, or on this one in the same way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chexvision.cli.names import Model, Preset
from chexvision.cli.shards import MaxBad, Private, Seed, ShardSize, Size, dataset_name, parse_bytes
from chexvision.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chexvision.config import Recipe
    from chexvision_dispatch.run_records import Option
    from chexvision_dispatch.submit import Job, Prepared
    from chexvision_dispatch.targets.target import GpuHours, Target


class On(StrEnum):
    """The targets by name."""

    KAGGLE = "kaggle"
    LOCAL = "local"
    HF_JOBS = "hf-jobs"


app = typer.Typer(rich_markup_mode=None)

_ACCELERATOR = "NvidiaTeslaT4"
_HOURS = 12.0
_FLAVOR = "t4-small"

Where = Annotated[On, typer.Option(help="Where to run.")]
TokenDataset = Annotated[
    str | None,
    typer.Option(metavar="OWNER/SLUG", help="Private Kaggle dataset whose hf_token.txt is the session's Hub token."),
]
TimeoutHours = Annotated[
    float | None,
    typer.Option(help="When the session is cut; the run pauses before. At most 12 on Kaggle. [default: 12]"),
]
DockerImage = Annotated[
    str | None, typer.Option(help="Pin the session's image: one of Kaggle's own, or (hf-jobs) any with torch.")
]
Public = Annotated[bool, typer.Option("--public", help="Show Kaggle's kernel to everybody.")]
MaxHours = Annotated[float | None, typer.Option(help="(--on local) Save the state and pause after so many hours.")]
Watch = Annotated[
    bool | None, typer.Option("--watch/--detach", help="Show the log until it ends. [default: with --on local]")
]
AutoResume = Annotated[
    bool, typer.Option("--auto-resume", help="Watch, and start the next session when one reaches its limit.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Write what would be sent and send nothing.")]
Out = Annotated[Path | None, typer.Option(help="Folder that --dry-run writes. [default: runs/<run id>/kernel]")]
RunDir = Annotated[Path | None, typer.Option(help="Folder of a run with --on local. [default: runs/<run id>]")]


@dataclass(frozen=True, slots=True)
class Sending:
    """How a run is sent, whatever it computes; the options' own help says more."""

    on: On
    token_dataset: str | None
    timeout_hours: float | None
    docker_image: str | None
    public: bool
    max_hours: float | None
    watch: bool | None
    auto_resume: bool
    dry_run: bool
    out: Path | None
    run_dir: Path | None
    accelerator: str = _ACCELERATOR
    flavor: str = _FLAVOR


@app.callback(invoke_without_command=True)
def train(
    context: typer.Context,
    model: Model = "",
    on: Where = On.KAGGLE,
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
    preset: Preset = None,
    private: Annotated[
        bool, typer.Option("--private", help="Create the model's repository so that only you see it.")
    ] = False,
    token_dataset: TokenDataset = None,
    accelerator: Annotated[
        str, typer.Option(help="Kaggle's name for the hardware; this one is two T4s.")
    ] = _ACCELERATOR,
    timeout_hours: TimeoutHours = None,
    docker_image: DockerImage = None,
    public: Public = False,
    flavor: Annotated[str, typer.Option(help="Hardware of a Hugging Face job.")] = _FLAVOR,
    max_hours: MaxHours = None,
    force: Annotated[bool, typer.Option("--force", help="Dispatch even if the GPU quota will not last.")] = False,
    watch: Watch = None,
    auto_resume: AutoResume = False,
    dry_run: DryRun = False,
    out: Out = None,
    run_dir: RunDir = None,
) -> None:
    """Pack this source tree with a recipe and train it on Kaggle's GPUs, or on this machine."""
    if context.invoked_subcommand is not None:
        _refuse_options_before(context.invoked_subcommand, context)
        return
    if not model:
        raise UsageError("name what to train: --model densenet")
    from chexvision.recipes import load_recipe
    from chexvision_dispatch import submit

    recipe = load_recipe(model, preset=preset, overrides=overrides or [])
    request = submit.Request(model, preset, overrides or [], data, to, private)
    sending = Sending(
        on=on,
        token_dataset=token_dataset,
        timeout_hours=timeout_hours,
        docker_image=docker_image,
        public=public,
        max_hours=max_hours,
        watch=watch,
        auto_resume=auto_resume,
        dry_run=dry_run,
        out=out,
        run_dir=run_dir,
        accelerator=accelerator,
        flavor=flavor,
    )
    _send(recipe.name, lambda target: submit.training(request, recipe, target), sending, recipe, force=force)


@app.command("shards")
def shards(
    to: Annotated[str, typer.Option(metavar="USER/NAME", help="The dataset to push to, created if need be.")],
    on: Where = On.KAGGLE,
    images: Annotated[
        Path | None, typer.Option(help="(--on local) Folder of the release: images and Data_Entry_2017*.csv.")
    ] = None,
    size: Size = 320,
    split: Annotated[
        str | None, typer.Option(help="official, patient, or a patient_id,split table.  [default: what fits]")
    ] = None,
    shard_size: ShardSize = "256MB",
    seed: Seed = 0,
    max_bad: MaxBad = 0.001,
    private: Private = False,
    token_dataset: TokenDataset = None,
    timeout_hours: TimeoutHours = None,
    docker_image: DockerImage = None,
    public: Public = False,
    max_hours: MaxHours = None,
    watch: Watch = None,
    auto_resume: AutoResume = False,
    dry_run: DryRun = False,
    out: Out = None,
    run_dir: RunDir = None,
) -> None:
    """Build shards of the NIH release where it lies on Kaggle, without a download, and push them to the Hub."""
    from chexvision_dispatch.build_request import ShardsRequest, building

    if on is On.HF_JOBS:
        raise UsageError("--on hf-jobs has no copy of the release; take kaggle, which has, or local with --images")
    dataset = dataset_name("--to", to)
    request = ShardsRequest(dataset.repo_id, images, size, split, parse_bytes(shard_size), seed, max_bad, private)
    sending = Sending(
        on=on,
        token_dataset=token_dataset,
        timeout_hours=timeout_hours,
        docker_image=docker_image,
        public=public,
        max_hours=max_hours,
        watch=watch,
        auto_resume=auto_resume,
        dry_run=dry_run,
        out=out,
        run_dir=run_dir,
    )
    _send("shards", lambda target: building(request, target), sending)


def _refuse_options_before(subcommand: str, context: typer.Context) -> None:
    sources = {name: context.get_parameter_source(name) for name in context.params}
    typed = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if typed:
        raise UsageError(f"write --{typed[0].replace('_', '-')} behind {subcommand}, which has options of its own")


def _send(
    name: str,
    job: Callable[[Target], Job],
    sending: Sending,
    recipe: Recipe | None = None,
    *,
    force: bool = False,
) -> None:
    """Prepare a run called `name` and send it, as `sending` says; `recipe` is what it trains, if it does."""
    from chexvision.provenance import new_run_id
    from chexvision_dispatch import run_records as records
    from chexvision_dispatch import submit
    from chexvision_dispatch.targets.registry import open_target

    on, dry_run = sending.on, sending.dry_run
    if sending.out is not None and not dry_run:
        raise UsageError("--out is where --dry-run writes; add --dry-run or leave it out")
    if sending.run_dir is not None and on is not On.LOCAL:
        raise UsageError("--run-dir is the folder of a run on this machine; add --on local or leave it out")
    run_id = new_run_id(name)
    home = sending.run_dir or Path("runs") / run_id
    if on is On.LOCAL and not dry_run and home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise UsageError(f"--run-dir {home} is not empty; name a new folder")
    options = _options(sending, home)
    kept = home / "kernel" if dry_run or on is On.LOCAL else records.runs_dir() / run_id / "kernel"
    folder = sending.out or kept
    target = open_target(on, {**options, "dry_run": True} if dry_run and on is On.KAGGLE else options)

    prepared = submit.prepare(job(target), target, run_id, folder, options)
    checked = [] if dry_run else target.check(_needs(recipe, on, options, force=force))
    notes = [*prepared.notes, *checked]
    notes += submit.write(prepared, target, folder)
    _describe(prepared, notes)
    if dry_run:
        typer.echo(f"dry run: nothing was sent; what would be is in {folder}")
        return
    record, notes = submit.submit(prepared, target, folder)
    for note in notes:
        typer.echo(f"note   {note}")
    page = record.sessions[-1].page
    if page:
        typer.echo(f"page   {page}")
    if sending.auto_resume or (on is On.LOCAL if sending.watch is None else sending.watch):
        from chexvision.cli.runs import show_log

        show_log(record, sending.auto_resume)
    else:
        typer.echo(f"next   chexvision runs logs -f {run_id}, or close the laptop and type: chexvision runs status")


def _needs(recipe: Recipe | None, on: On, options: Mapping[str, Option], *, force: bool) -> GpuHours | None:
    """How long a run takes the target's GPU; only Kaggle's are counted."""
    from chexvision_dispatch.gpu_hours import gpu_hours
    from chexvision_dispatch.targets.target import GpuHours

    if recipe is None:
        return None
    if on is not On.KAGGLE:
        return GpuHours()
    hours = gpu_hours(recipe, options)
    return replace(hours, force=force)


def _options(sending: Sending, home: Path) -> dict[str, Option]:
    """What the target is made with; an option of another target is refused, not ignored."""
    on = sending.on
    if on is not On.KAGGLE:
        if sending.token_dataset is not None:
            raise UsageError(
                "--token-dataset is for Kaggle; here the token of HF_TOKEN or of `hf auth login` is used"
            )
        if sending.accelerator != _ACCELERATOR or sending.public:
            raise UsageError(f"--accelerator and --public are for Kaggle; leave them out with --on {on}")
    if on is not On.HF_JOBS and sending.flavor != _FLAVOR:
        raise UsageError(f"--flavor is for Hugging Face Jobs; leave it out with --on {on}, or add --on hf-jobs")
    if on is On.LOCAL:
        if sending.timeout_hours is not None or sending.docker_image is not None:
            raise UsageError("--timeout-hours and --docker-image are for Kaggle and hf-jobs; here take --max-hours")
        if sending.max_hours is not None and sending.max_hours <= 0:
            raise UsageError(f"--max-hours {sending.max_hours:g} must be above 0")
        return {"run_dir": str(home.resolve()), "max_hours": sending.max_hours}
    if sending.max_hours is not None:
        raise UsageError("--max-hours is for --on local; elsewhere it follows from --timeout-hours")
    hours = _HOURS if sending.timeout_hours is None else sending.timeout_hours
    if on is On.HF_JOBS:
        return {"flavor": sending.flavor, "timeout_hours": hours, "image": sending.docker_image}
    from chexvision_dispatch.targets.credentials import remembered_dataset

    return {
        "token_dataset": sending.token_dataset or remembered_dataset(),
        "accelerator": sending.accelerator,
        "public": sending.public,
        "timeout_hours": hours,
        "docker_image": sending.docker_image,
    }


def _describe(prepared: Prepared, notes: list[str]) -> None:
    record = prepared.record
    changed = " with changes" if record.source_dirty else ""
    size = len(prepared.script.encode()) / 1024
    typer.echo(f"run    {record.run_id}")
    typer.echo(f"bundle {record.bundle_sha256[:12]} of {record.source_revision[:12]}{changed}, script {size:.0f} kB")
    typer.echo(f"data   {record.data}")
    if prepared.split is not None:
        typer.echo(f"split  {prepared.split}")
    typer.echo(f"to     {record.to or 'the output of the session'}")
    for note in notes:
        typer.echo(f"note   {note}")
