"""`chexvision pull`, `ensemble` and `predict`: what to do with published models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from chexvision.config.test_time import Tta

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


def ensemble(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Two or more folders, or USER/REPO[@REV] on the Hub.")
    ],
    to: Annotated[str, typer.Option(help="Where to publish it: USER/REPO or a folder.")],
    weights: Annotated[
        Literal["equal", "validation"], typer.Option(help="Of the models: equal, or fitted on validation.")
    ] = "equal",
    data: Annotated[
        str | None,
        typer.Option(
            help="Shards to predict, a folder or USER/NAME@<sha>, where the models were measured on different ones.",
            show_default=False,
        ),
    ] = None,
    split_rule: Annotated[
        str | None,
        typer.Option("--split-rule", metavar="RULE", help="How to divide them.  [default: as the models' runs did]"),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="A new repository is seen by its owner alone.")] = False,
) -> None:
    """Publish several models as one, which predicts their mean: with weights, calibration, thresholds and metrics."""
    from chexvision.hub.reference import parse_reference
    from chexvision.report.ensemble_artifact import assemble_ensemble

    published = assemble_ensemble(
        [parse_reference(model) for model in models],
        parse_reference(to),
        weights=weights,
        data=None if data is None else parse_reference(data),
        split_rule=split_rule,
        private=private,
    )
    typer.echo(f"{published.address}\n{published.reference}")


def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder, or USER/REPO[@REV] on the Hub.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="PNG or JPEG files.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    explain: Annotated[
        Path | None,
        typer.Option("--explain", metavar="DIR", help="Write overlays of each image's 3 most probable findings."),
    ] = None,
    tta: Annotated[
        Tta, typer.Option(help="Average the probabilities over views of each image; views: as it is, flipped, ±7°.")
    ] = "none",
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
    if tta != "none" and (points.calibration or points.thresholds):
        typer.echo(f"note: calibration and thresholds of {model} were chosen without {tta}", err=True)
    with Progress("predicting", len(images) * len(loaded.members), "images") as progress:
        predictions = predict_files(loaded, images, accelerator, points, progress.advance, tta)
    if explain is not None:
        from chexvision.explain.image_maps import explain_images
        from chexvision.inference.load_predictor import load_predictor

        if tta != "none":
            typer.echo(f"note: overlays show the image alone and its probabilities without {tta}", err=True)
        for explained in explain_images(load_predictor(reference, "torch"), images, explain):
            for one in explained.overlays:
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
