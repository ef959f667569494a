"""`chexvision train`, for kernels and for a machine with a GPU of its own; `weights`, that training starts from."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chexvision.cli.clusters.options import Address, On
from chexvision.cli.names import Model, Preset
from chexvision.errors import UsageError

if TYPE_CHECKING:
    from chexvision.config.data_config import DataConfig
    from chexvision.config.recipe import Recipe
    from chexvision.hub.reference import Reference
    from chexvision.metrics.records import SplitMetrics
    from chexvision.runs.session import Session
    from chexvision.training.run import TrainingOutcome
    from chexvision.training.training_session import TrainingJob

NO_EXPORT = "CHEXVISION_NO_EXPORT"


def train(
    model: Model = "",
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="A folder of shards, or USER/NAME@<sha>; several are a mixture. Default: the recipe's.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        str, typer.Option(help="Where to publish: USER/REPO on the Hub, or a folder.", show_default=False)
    ] = "",
    preset: Preset = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one value of the recipe; repeatable.")
    ] = None,
    resolved: Annotated[
        Path | None,
        typer.Option("--recipe", metavar="FILE.json", help="A resolved recipe, in place of --model and its changes."),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Create the repository of --to so that only you see it.")
    ] = False,
    work: Annotated[
        Path | None, typer.Option(help="Folder of state, history and artifact. Default: runs/<run id>.")
    ] = None,
    max_hours: Annotated[
        float | None,
        typer.Option(
            help="Save the state and end after so many hours; the same command continues from there.",
            show_default=False,
        ),
    ] = None,
    save_minutes: Annotated[
        float,
        typer.Option(help="Save the state so often within an epoch, too: a run that is killed loses no more.", min=0),
    ] = 30.0,
    on: On = "here",
    address: Address = "",
    workers: Annotated[
        int, typer.Option(help="(--on ray) Training processes, each with a GPU where the cluster has some.", min=1)
    ] = 1,
    storage: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="(--on ray) Folder of this run's checkpoints that all nodes reach, such as s3://BUCKET/RUN. "
            "Without it they share the folder of --work.",
            show_default=False,
        ),
    ] = "",
    no_export: Annotated[
        bool, typer.Option("--no-export", envvar=NO_EXPORT, help="Leave onnx/ out of the artifact.")
    ] = False,
    provenance: Annotated[Path | None, typer.Option(help="Written by dispatch.", hidden=True)] = None,
) -> None:
    """Train a recipe here or on a Ray cluster; the artifact is left in WORK/artifact and published with --to.

    Ctrl-C and SIGTERM save the state at the next step and end; the same command with the same --work continues.
    """
    from chexvision.hub.reference import RepoRef, parse_reference
    from chexvision.provenance import Provenance

    _check_options(on, workers, storage, max_hours, work)
    recipe, source = _recipe_and_data(_recipe(model, preset, overrides or [], resolved), data or [])
    destination = parse_reference(to) if to else None
    if private and not isinstance(destination, RepoRef):
        raise UsageError("--private is for a repository on the Hub: name one with --to USER/REPO, or leave it out")
    made = Provenance.read(provenance) if provenance else Provenance.here(recipe.name)
    from chexvision.training.training_session import TrainingJob

    job = TrainingJob(
        recipe,
        source,
        work if work is not None else Path("runs") / made.run_id,
        made,
        dispatched=provenance is not None,
        to=destination,
        private=private,
        export=not no_export,
        max_hours=max_hours,
        save_minutes=save_minutes,
    )
    if on == "ray":
        from chexvision.cluster.ray_train import train_on_ray

        outcome = train_on_ray(run_job, job, workers, address, storage)
    else:
        outcome = run_job(job)
    _print(outcome)


def _check_options(on: str, workers: int, storage: str, max_hours: float | None, work: Path | None) -> None:
    """Refuse values that no recipe would make right."""
    if max_hours is not None and not max_hours > 0:
        raise UsageError(f"--max-hours {max_hours:g} must be above 0")
    if on == "here" and (workers != 1 or storage):
        option = f"--storage {storage}" if storage else f"--workers {workers}"
        raise UsageError(f"{option} is for --on ray; several processes on this machine are started by torchrun")
    if work is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("several processes train one run: name its folder, --work DIR")


def _recipe_and_data(recipe: Recipe, data: list[str]) -> tuple[Recipe, Reference | None]:
    """The recipe with the data sets of a mixture that `data` names; or the one data set in place of its own."""
    from chexvision.data.mixture import check_names
    from chexvision.hub.reference import parse_reference, pinned_reference
    from chexvision.recipes import with_datasets

    if len(data) > 1 or (data and recipe.data.datasets):
        recipe = with_datasets(recipe, data)
    source = parse_reference(data[0]) if len(data) == 1 else None
    check_names(recipe.data, source)
    if recipe.loss.taught_by is not None:
        pinned_reference(recipe.loss.taught_by, "loss.teacher")
    return recipe, source


def run_job(
    job: TrainingJob,
    on_session: Callable[[Session], None] = lambda session: None,
    on_saved: Callable[[], None] = lambda: None,
) -> TrainingOutcome:
    """Train in this process, which may be one of several.

    Args:
        job: what was asked for.
        on_session: called with the session when it has begun.
        on_saved: called after the state was saved.
    """
    from chexvision.hub.reference import RepoRef
    from chexvision.runs.branch import RunBranch
    from chexvision.runs.run_progress import read_progress
    from chexvision.training.training_session import TrainingProgress

    provenance, branch = job.provenance, None
    begun = read_progress(job.work)
    if begun is not None and not job.dispatched:
        provenance = provenance.model_copy(update={"run_id": begun.run_id})
    if isinstance(job.to, RepoRef):
        branch = RunBranch(job.to.repo_id, provenance.run_id, private=job.private)
    progress = TrainingProgress(job.work, provenance.run_id, max_hours=job.max_hours, branch=branch)
    try:
        _check_data(job.data, job.recipe.data)
    except Exception as error:
        if job.dispatched:  # the laptop reads that another session would fail as well
            progress.session.fail(error)
        raise
    # Before torch is imported: a token that may not write is found out at once.
    with progress.session:
        from chexvision.training.checkpoint import Saving
        from chexvision.training.run import run_training

        on_session(progress.session)
        saving = Saving(job.save_minutes * 60, on_saved)
        return run_training(
            job.recipe,
            job.data,
            job.work,
            provenance,
            progress,
            job.to,
            private=job.private,
            export=job.export,
            saving=saving,
        )


def _recipe(model: str, preset: str | None, overrides: list[str], resolved: Path | None) -> Recipe:
    from chexvision.recipes import load_recipe, read_resolved

    if resolved is None:
        if not model:
            raise UsageError("name what to train: --model densenet")
        return load_recipe(model, preset=preset, overrides=overrides)
    if model or preset or overrides:
        raise UsageError("--recipe is resolved: leave out --model, --preset and --set, or name --model in its place")
    return read_resolved(resolved)


def _print(outcome: TrainingOutcome) -> None:
    """Print the metrics of a finished run, and where its artifact is."""
    if outcome.artifact is not None and outcome.metrics is not None:
        for name, split in outcome.metrics.splits.items():
            _print_split(name, split)
        for part in outcome.metrics.mixture:
            _print_split(f"{part.split} of {part.name}", part.metrics)
        typer.echo(f"artifact: {outcome.artifact}")
    if outcome.publication is not None:
        where, page = outcome.publication.reference, outcome.publication.address
        typer.echo(f"published: {where}" if page == where else f"published: {where}, {page}")


def _print_split(name: str, split: SplitMetrics) -> None:
    auroc = "–" if split.macro_auroc is None else f"{split.macro_auroc:.4f}"
    typer.echo(f"{name}: macro AUROC {auroc} over {split.macro.findings} findings, {split.images} images")


def _check_data(source: Reference | None, config: DataConfig) -> None:
    """Check that the data fits the recipe, before anything is created on the Hub or downloaded."""
    if os.environ.get("RANK", "0") != "0":  # one process is enough
        return
    from chexvision.data.mixture import check_run_data

    # Several machines may each need a part of the shards, and check these.
    found = check_run_data(config, source, () if int(os.environ.get("WORLD_SIZE", "1")) > 1 else None)
    for name, division in found.items():
        of = f" of {name}" if len(found) > 1 else ""
        typer.echo(f"split {division.record}{of}: {division.record.counts()}")


weights = typer.Typer(help="Weights that training can start from.", no_args_is_help=True, rich_markup_mode=None)


@weights.callback()
def _weights() -> None:
    """Weights that training can start from."""


@weights.command("convert")
def convert(
    checkpoint: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint of torch.save, or safetensors.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="The new file.")],
    backbone: Annotated[str, typer.Option(help="The network that it is of, such as eva_x_small, rad_dino.")],
) -> None:
    """Convert a published checkpoint, once, to safetensors for model.weights. No code in it is executed."""
    from chexvision.backbones import check_backbone, license_note
    from chexvision.models.convert import convert_checkpoint

    try:
        check_backbone(backbone)
    except ValueError as error:
        raise UsageError(str(error)) from None
    made = convert_checkpoint(checkpoint, out, backbone)
    typer.echo(f"{out}: {made.tensors} tensors of {backbone}, sha256 {made.sha256}")
    typer.echo(f"source: {checkpoint.name}, sha256 {made.source_sha256}")
    typer.echo(f"license: {made.license or 'not known; see where the checkpoint was published'}")
    note = license_note(out.name, made.license)
    if note is not None:
        typer.echo(f"note: {note}")
    for what, names in (("left out", made.unused), ("not in the checkpoint", made.missing)):
        if names:
            typer.echo(f"{what}: {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}")
    typer.echo(f"train from it: --set model.backbone={backbone} --set model.weights={out}")
