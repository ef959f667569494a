"""Options by which `shards build`, `train` and `predict` run on a cluster instead of on this machine."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

On = Annotated[
    Literal["here", "ray"],
    typer.Option("--on", help="Where to compute: on this machine, or on a Ray cluster."),
]
Address = Annotated[
    str,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        envvar="RAY_ADDRESS",
        help="(--on ray) Of the cluster. Default: one that runs on this machine, else one is started.",
        show_default=False,
    ),
]
