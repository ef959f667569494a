"""`chexvision pull` and `chexvision predict`: what to do with a published model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

Precision = Literal["auto", "fp32", "fp16", "bf16"]

if TYPE_CHECKING:
    from chexvision.inference.predict_images import Prediction


def pull(
    model: Annotated[str, typer.Argument(metavar="USER/REPO[@REV]", help="A model on the Hub.")],
    out: Annotated[Path, typer.Option(help="New folder for its files.")],
) -> None:
    """Fetch a published model at a revision: a run's id, a commit, or the newest."""
    from chexvision.artifact.store import open_store
    from chexvision.errors import UsageError
    from chexvision.hub.reference import RepoRef, parse_reference

    reference = parse_reference(model)
    if not isinstance(reference, RepoRef):
        raise UsageError(f"{model} is not a Hub repository; write USER/REPO or USER/REPO@REVISION")
    typer.echo(str(open_store(reference).fetch(reference.revision, out)))


def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder, or USER/REPO[@REV] on the Hub.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="PNG or JPEG files.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    explain: Annotated[
        Path | None,
        typer.Option("--explain", metavar="DIR", help="Write overlays of each image's 3 most probable findings."),
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="To compute in; auto is faster, fp32 the same on every machine.")
    ] = "fp32",
) -> None:
    """Print normal/abnormal and the findings' probabilities for each image. Research only."""
    from chexvision.artifact.load import load_published
    from chexvision.hub.reference import parse_reference
    from chexvision.inference.predict_images import predict_files
    from chexvision.progress import Progress
    from chexvision.training.hardware import start_accelerator

    reference = parse_reference(model)
    accelerator = start_accelerator(precision)
    loaded, points = load_published(reference)
    with Progress("predicting", len(images), "images") as progress:
        predictions = predict_files(loaded, images, accelerator, points, progress.advance)
    if explain is not None:
        from chexvision.explain.image_maps import explain_files

        for one in explain_files(loaded, images, explain, points=points):
            typer.echo(f"{explain / one.overlay}", err=True)
    if as_json:
        import json
        from dataclasses import asdict

        typer.echo(json.dumps([asdict(of) for of in predictions], indent=2, allow_nan=False, default=str))
        return
    from chexvision.console import LiteralConsole
    from chexvision.report.table import Column, Table, print_table, row

    console = LiteralConsole()
    notes = ("* reaches the model's threshold",) if any(of.calls for of in predictions) else ()
    for group in _fitting(predictions, console.width):
        rows = [row("abnormal", *(_cell(of, "Abnormal", of.abnormal) for of in group), emphasis=True)]
        rows += [row(name, *(_cell(of, name, of.findings[name]) for of in group)) for name in group[0].findings]
        columns = (Column(""), *(Column(of.image.name) for of in group))
        print_table(console, Table("Probabilities (research only, not a diagnosis)", columns, tuple(rows), notes))


def _cell(prediction: Prediction, name: str, probability: float) -> str:
    if not prediction.calls:
        return f"{probability:.3f}"
    return f"{probability:.3f} {'*' if prediction.calls.get(name) else ' '}"


def _fitting(predictions: list[Prediction], width: int) -> Iterator[list[Prediction]]:
    """Groups of predictions whose columns fit side by side into `width` characters."""
    names = max(len(prediction.image.name) for prediction in predictions)
    count = max(1, (width - 22) // (names + 3))
    for first in range(0, len(predictions), count):
        yield predictions[first : first + count]
