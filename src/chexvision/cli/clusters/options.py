"""Options by which `shards build`, `train`, `predict` and `evaluate` run on a cluster instead of on this machine."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from chexvision.errors import UsageError

On = Annotated[
    Literal["here", "ray"],
    # Eager: known when the address is looked at, in whatever order they are typed.
    typer.Option("--on", is_eager=True, help="Where to compute: on this machine, or on a Ray cluster."),
]


def _for_a_cluster(context: typer.Context, value: str) -> str:
    """Refuse an address that is typed without ``--on ray``; RAY_ADDRESS may be set for other commands."""
    source = context.get_parameter_source("address")
    if source is not None and source.name == "COMMANDLINE" and context.params.get("on") != "ray":
        raise UsageError(f"--address {value} is for --on ray; add it, or leave the address out")
    return value


Address = Annotated[
    str,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        envvar="RAY_ADDRESS",
        callback=_for_a_cluster,
        help="(--on ray) Of the cluster. Default: one that runs on this machine, else one is started.",
        show_default=False,
    ),
]

Workers = Annotated[
    int | None,
    typer.Option(
        min=1, help="(--on ray) Tasks at a time.  [default: one per GPU, else one per node]", show_default=False
    ),
]


def refuse_workers(on: str, workers: int | None) -> None:
    """Raise UsageError where a number of tasks is given for this machine."""
    if on != "ray" and workers is not None:
        raise UsageError("--workers is for --on ray; leave it out: all cores of this machine are used")
