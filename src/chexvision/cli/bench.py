"""`chexvision bench`: a table on stderr, JSON on stdout."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
def shards(data: Annotated[Path, typer.Option(help="A folder of radiographs (PNG).")], size: Size = 320) -> None:
    """Radiographs to stored images, on one core."""
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


@app.command("processes")
def processes(data: Annotated[Path, typer.Option(help="A folder of shards.")]) -> None:
    """Training on the CPU in two processes of one core each, compared with one."""
    from chexvision.bench.two_processes import bench_processes

    _show(bench_processes(data))


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
