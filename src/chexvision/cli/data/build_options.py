"""Options of `chexvision shards build` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Images = Annotated[
    list[str] | None,
    typer.Option(
        "--images",
        help="Folder of PNG, JPEG or DICOM files, .tar.gz or .zip, or s3://bucket/folder; repeatable.",
        show_default=False,
    ),
]
Dataset = Annotated[
    str | None,
    typer.Option(
        "--set",
        metavar="SET",
        help="nih, chexpert, mimic, padchest, vindr, chestmnist, hub:USER/NAME@SHA; or csv, your own --labels."
        "  [default: nih]",
    ),
]
Metadata = Annotated[
    str | None,
    typer.Option("--metadata", help="The release's table, or the folder with them.  [default: near --images]"),
]
Labels = Annotated[str | None, typer.Option("--labels", help="Your own table, instead of --metadata; needs --map.")]
WhichViews = Annotated[Literal["frontal", "all"], typer.Option("--views", help="all: keep lateral views too.")]
Map = Annotated[
    str | None,
    typer.Option("--map", help="What its columns mean: a YAML file (chexvision labels template), or chexpert, …"),
]
OutOrUrl = Annotated[
    str | None,
    typer.Option("--out", help="Folder to make, or s3://bucket/folder; it is complete or not made at all."),
]
Work = Annotated[
    Path | None,
    typer.Option(
        "--work", help="Make WORK/shards; if interrupted, the same command continues after finished shards."
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        "--split",
        help="official, patient, or a patient_id,split table.  [default: official if the release has one]",
    ),
]
To = Annotated[
    str | None, typer.Option("--to", metavar="USER/NAME", help="(--work) Push the shards to this dataset.")
]
MaxHours = Annotated[
    float | None, typer.Option("--max-hours", help="(--work) Stop after so many hours and keep finished shards.")
]
IgnoreTimes = Annotated[
    bool,
    typer.Option(
        "--ignore-times",
        help="Continue with files of the same size, whatever their times: for images that are mounted again.",
    ),
]
WrittenByDispatch = Annotated[Path | None, typer.Option(help="Written by dispatch.", hidden=True)]
