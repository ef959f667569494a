"""`chexvision bench`: a table on stderr, JSON on stdout."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chexvision.cli.clusters.options import Address, On
from chexvision.cli.names import Model
from chexvision.errors import UsageError

if TYPE_CHECKING:
    from chexvision.bench.bench_report import Report

app = typer.Typer(
    help="Measure this machine: JSON on stdout, a table on stderr.", no_args_is_help=True, rich_markup_mode=None
)

Data = Annotated[str, typer.Option(help="A folder of shards, or USER/NAME@<sha>.")]
Batch = Annotated[int, typer.Option(min=1, help="Images per pass.")]
Size = Annotated[int, typer.Option(min=32, help="Side of the images in pixels.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Cores to use. Default: all.", show_default=False)]
Device = Annotated[str | None, typer.Option(help="cpu, or cuda. Default: a GPU if there is one.", show_default=False)]


@app.command("shards")
def shards(
    data: Annotated[Path, typer.Option(help="A folder of radiographs (PNG).")],
    size: Size = 320,
    on: On = "here",
    address: Address = "local",
) -> None:
    """Radiographs to stored images, on one core; with --on ray to shards, by one worker and by two."""
    if on == "ray":
        from chexvision.bench.building import bench_cluster
        from chexvision.cluster.connect import connected
        from chexvision.cluster.ray_build import shards_on

        with connected(address) as cluster:
            _show(bench_cluster(data, size, shards_on(cluster)))
        return
    if hasattr(os, "sched_setaffinity"):  # on other systems it is one thread anyway
        _use_cores(1)
    from chexvision.bench.building import bench_shards

    _show(bench_shards(data, size))


@app.command("input")
def input_(data: Data, batch: Batch = 96, size: Size = 320, workers: Workers = None, device: Device = None) -> None:
    """Time from shards to the first batch, and throughput after it, with and without augmentation."""
    _use_cores(workers)
    chosen = _device(device)
    import torch

    from chexvision.bench.supply import bench_input
    from chexvision.hub.reference import parse_reference

    _show(bench_input(parse_reference(data), torch.device(chosen), batch, size))


@app.command("step")
def step(
    data: Data,
    model: Model = "densenet",
    batch: Batch = 24,
    size: Size = 320,
    accumulate: Annotated[int, typer.Option(min=1, help="Passes per optimization step.")] = 4,
    compile_: Annotated[
        bool, typer.Option("--compile", help="Use torch.compile, which needs minutes at first.")
    ] = False,
    workers: Workers = None,
    device: Device = None,
) -> None:
    """Optimization steps of the training loop: images/s, peak memory, and the time spent waiting for data."""
    _use_cores(workers)
    _device(device)
    from chexvision.bench.steps import bench_step
    from chexvision.hub.reference import parse_reference

    _show(bench_step(parse_reference(data), model, batch, size, accumulate, compile=compile_))


@app.command("track")
def track(
    data: Data,
    model: Model = "densenet",
    batch: Batch = 4,
    size: Size = 64,
    seconds: Annotated[float, typer.Option(min=0, help="No further round begins that would take longer.")] = 75,
    workers: Workers = None,
    device: Device = None,
) -> None:
    """Training steps with a tracker that hangs, raises, is killed, fills the disk or floods, compared with none."""
    _use_cores(workers)
    _device(device)
    from chexvision.bench.tracked_steps import bench_track
    from chexvision.hub.reference import parse_reference

    _show(bench_track(parse_reference(data), model, batch, size, seconds))


@app.command("evaluate")
def evaluate(
    data: Data,
    model: Model = "densenet",
    batch: Batch = 24,
    size: Size = 320,
    workers: Workers = None,
    device: Device = None,
) -> None:
    """Prediction of a split: images/s."""
    _use_cores(workers)
    _device(device)
    from chexvision.bench.steps import bench_evaluate
    from chexvision.hub.reference import parse_reference

    _show(bench_evaluate(parse_reference(data), model, batch, size))


@app.command("predict")
def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="An exported model: a folder, or USER/REPO[@REV].")],
    images: Annotated[Path, typer.Option(help="A folder of radiographs.")],
    count: Annotated[int, typer.Option(min=1, help="Images per round.")] = 16,
    rounds: Annotated[int, typer.Option(min=1, help="In each of them, every engine predicts all images.")] = 3,
    workers: Workers = None,
) -> None:
    """From files to probabilities on the CPU: each engine, compared with the usual script and the torch engine."""
    _use_cores(workers)
    _device("cpu")
    from chexvision.bench.prediction import bench_predict
    from chexvision.hub.reference import parse_reference

    _show(bench_predict(parse_reference(model), images, count, rounds))


@app.command("processes")
def processes(
    data: Annotated[Path, typer.Option(help="A folder of shards.")], on: On = "here", address: Address = "local"
) -> None:
    """Training steps on the CPU in two processes of one thread each, compared with one: a minute on two cores."""
    _device("cpu")
    from chexvision.bench.two_processes import bench_processes, time_steps

    if on == "ray":
        from chexvision.cluster.connect import connected
        from chexvision.cluster.ray_train import train_connected

        with connected(address):
            _show(bench_processes(data, partial(train_connected, time_steps)))
        return
    _show(bench_processes(data))


@app.command("scaling")
def scaling(
    data: Data,
    radiographs: Annotated[Path, typer.Option(help="A folder of radiographs (PNG) as they are released.")],
    images: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="How many images; repeatable. Default: 112120, 10⁶, 10⁷ and 10⁸.", show_default=False
        ),
    ] = None,
    clusters: Annotated[
        list[str] | None,
        typer.Option(
            "--cluster",
            metavar="NAME[,KEY=VALUE,…]",
            help="2xT4, 8xA100 or 64xH100, also with other values; repeatable. Default: all.",
            show_default=False,
        ),
    ] = None,
    model: Model = "scratch",
    batch: Batch = 24,
    size: Size = 320,
    device: Device = None,
) -> None:
    """Storage, and hours to build, download, decode and train, for any number of images on any cluster.

    What one core and one device of this machine do is measured; clusters are estimated from that by arithmetic.
    """
    from chexvision.bench.scaling import SETTINGS, known_clusters, read_cluster

    chosen = dict(map(read_cluster, clusters or known_clusters()))
    _device(device)
    from rich.console import Console

    from chexvision.bench.scaling_rates import bench_scaling
    from chexvision.hub.reference import parse_reference

    counts = images or [112_120, 10**6, 10**7, 10**8]
    reports = bench_scaling(parse_reference(data), radiographs, counts, chosen, model, batch, size)
    for report in reports:
        report.print_table(Console(stderr=True))
    for limit, setting in SETTINGS.items():
        typer.echo(f"an epoch limited by {limit}: {setting}", err=True)
    typer.echo(json.dumps([report.as_dict() for report in reports], indent=2))


@app.command("recipes")
def recipes(
    images: Annotated[list[Path], typer.Option(help="A folder of radiographs; repeatable.")],
    metadata: Annotated[Path, typer.Option(help="Data_Entry_2017*.csv, plain or .gz.")],
    work: Annotated[Path, typer.Option(help="Folder of shards and results; the same one continues.")],
    variants: Annotated[
        Path | None,
        typer.Option(
            help="YAML: NAME: {recipe: scratch, set: [a.b=c]}, or {loop: predecessor}. Default: those of the guide.",
            show_default=False,
        ),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="A variant beside the baseline; repeatable. Default: all.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change a value in all variants; repeatable.")
    ] = None,
    baseline: Annotated[str, typer.Option(help="The variant that the others are compared with.")] = "predecessor",
    folds: Annotated[int, typer.Option(min=2, help="Parts of the patients.")] = 3,
    seeds: Annotated[list[int] | None, typer.Option("--seed", min=0, help="Repeatable. Default: 0, 1 and 2.")] = None,
    size: Size = 64,
    workers: Workers = None,
    device: Device = None,
) -> None:
    """Cross-validation by patient: each variant is trained per seed and fold, and compared with a baseline.

    Results are kept in --work: an interrupted benchmark continues, and several processes, each with its own --seed,
    can share the folder.
    """
    _use_cores(workers)
    _device(device)
    from chexvision.bench.cross_validation import SMALL_DATA, open_cross_validation, read_variants, run_missing
    from chexvision.bench.cross_validation_table import lines_of, measured, report_of, table_of
    from chexvision.console import LiteralConsole
    from chexvision.report.table import print_table

    known, all_seeds = read_variants(variants or SMALL_DATA, overrides or ()), seeds or [0, 1, 2]
    for option, name in [("--baseline", baseline), *(("--only", one) for one in only or ())]:
        if name not in known:
            raise UsageError(f"{option} {name}: known are {', '.join(known)}")
    chosen = {name: of for name, of in known.items() if not only or name in (baseline, *only)}
    validation = open_cross_validation(images, metadata, work, folds, size)
    for name, seed, fold, result in run_missing(validation, chosen, all_seeds):
        facts = result.facts
        typer.echo(
            f"{name}, seed {seed}, fold {fold}: validation macro AUROC {facts.validation_auroc:.3f} in epoch "
            f"{facts.epoch}, {facts.cpu_seconds:.0f} s of CPU time",
            err=True,
        )
    ways, left_out = measured(validation, chosen, all_seeds)
    lines = lines_of(ways, baseline)
    print_table(LiteralConsole(stderr=True), table_of(lines, validation, baseline, left_out))
    typer.echo(json.dumps(report_of(lines, validation, baseline).as_dict(), indent=2))


def _use_cores(count: int | None) -> None:
    """Restrict this process, and the threads and processes it will start, to `count` cores."""
    if count is None:
        return
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("--workers: this system cannot restrict a process to cores; omit the option")
    available = sorted(os.sched_getaffinity(0))
    if count > len(available):
        raise UsageError(f"--workers {count}: this machine has {len(available)} cores")
    os.sched_setaffinity(0, available[:count])


def _device(wanted: str | None) -> str:
    """The device to measure; cpu hides the GPUs from this process."""
    if wanted not in (None, "cpu", "cuda"):
        raise UsageError(f"--device {wanted}: choose cpu or cuda")
    if wanted == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no GPU here; choose cpu")
    return "cuda" if torch.cuda.is_available() else "cpu"


def _show(report: Report) -> None:
    from rich.console import Console

    report.print_table(Console(stderr=True))
    typer.echo(json.dumps(report.as_dict(), indent=2))
