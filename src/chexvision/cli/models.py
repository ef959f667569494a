"""`chexvision pull` and `ensemble`: what to do with published models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Precision = Literal["auto", "fp32", "fp16", "bf16"]
# Of every command that computes a published model for images.
Engine = Annotated[
    Literal["auto", "torch", "onnx", "openvino"],
    typer.Option("--engine", help="What computes the model; onnx and openvino need an exported one, but no torch."),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda", "mps"],
    typer.Option("--device", help="Where it is computed; auto: a GPU where there is one."),
]
AnyView = Annotated[
    bool, typer.Option("--any-view", help="Take DICOM files that are not frontal chest radiographs, too.")
]


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
