"""`chexvision explain` and `chexvision audit`: regions that raise a finding, and how they agree with boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chexvision.cli.evaluate import Resamples, Seed, SplitRule
from chexvision.cli.models import AnyView, Device, Engine
from chexvision.errors import UsageError
from chexvision.foreign import printable

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A folder, or USER/REPO[@REV] on the Hub.")]


def explain(
    model: Model,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="PNG, JPEG or DICOM files.")],
    out: Annotated[Path, typer.Option(help="Folder for the overlays and explain.json.")],
    findings: Annotated[
        list[str] | None,
        typer.Option("--finding", help="What to explain, such as Effusion or Abnormal; repeatable."),
    ] = None,
    top: Annotated[
        int | None, typer.Option(help="Or each image's most probable findings, this many.  [default: 3]")
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(help="Or the activations of layers by name, separated by commas, such as layer1.0,layer4."),
    ] = None,
    contours: Annotated[
        bool, typer.Option("--contours", help="Draw lines at 25, 50 and 75 % of the scale, not colored areas.")
    ] = False,
    any_view: AnyView = False,
    engine: Engine = "auto",
    device: Device = "auto",
) -> None:
    """Show which regions raise a finding, one overlay per image and finding, or activations. Research only."""
    if bool(findings) + (top is not None) + (layers is not None) > 1:
        raise UsageError("--finding, --top and --layers exclude each other; keep one of them")
    if contours and layers is not None:
        raise UsageError("--contours is of maps of findings; leave it out with --layers")

    from chexvision.hub.reference import parse_reference

    if layers is not None:
        from chexvision.artifact.load import load_ensemble
        from chexvision.explain.activations import explain_layers

        loaded = load_ensemble(parse_reference(model))
        if len(loaded.members) > 1:
            raise UsageError(f"{model} is an ensemble, and --layers shows one network; name one of its members")
        for path in explain_layers(loaded.members[0], images, out, [name.strip() for name in layers.split(",")]):
            typer.echo(path)
        return
    from chexvision.explain.image_maps import SUMMARY_NAME, explain_images
    from chexvision.inference.load_predictor import load_predictor

    predictor = load_predictor(parse_reference(model), engine, device)
    explained = explain_images(
        predictor, images, out, findings or (), 3 if top is None else top, any_view=any_view, contours=contours
    )
    for notice in predictor.facts.notices:
        typer.echo(f"warning: {notice}", err=True)
    for image in explained:
        for warning in image.warnings:
            typer.echo(f"warning: {printable(Path(image.image).name)}: {warning}", err=True)
        for one in image.overlays:
            where = "nothing raises it" if one.peak is None else f"maximum at x {one.peak[0]}, y {one.peak[1]}"
            typer.echo(f"{out / one.overlay}  {one.probability:.3f}  {one.method}, {where}")
    typer.echo(f"{out / SUMMARY_NAME}")


def audit(
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder for audit.json and audit.png.")],
    images: Annotated[
        list[Path] | None, typer.Option("--images", help="Folder of radiographs; repeatable.", show_default=False)
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Or a folder of shards, or USER/NAME@<sha>.", show_default=False)
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Of --data: train, validation, test, all.  [default: test]")
    ] = None,
    split_rule: SplitRule = None,
    boxes: Annotated[
        Path | None,
        typer.Option("--boxes", help="BBox_List_2017.csv, plain or .gz.  [default: boxes.csv of --data]"),
    ] = None,
    box_side: Annotated[
        int | None,
        typer.Option(
            "--box-side",
            min=1,
            help="Side of the images behind the boxes.  [default: 1024; synthetic: theirs]",
        ),
    ] = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
) -> None:
    """Measure how well a model's maps agree with boxes around the findings, and show the best and the worst."""
    if bool(images) == (data is not None):
        raise UsageError("name radiographs with --images or shards with --data, one of the two")
    if images and (split is not None or split_rule is not None):
        raise UsageError("--split and --split-rule are of shards; leave them out with --images")

    from chexvision.console import LiteralConsole
    from chexvision.explain.reports import AUDIT_NAME, SHEET_NAME, run_audit
    from chexvision.explain.sheet import audit_table
    from chexvision.hub.reference import parse_reference
    from chexvision.report.table import print_table

    found = run_audit(
        parse_reference(model),
        images or [],
        parse_reference(data) if data is not None else None,
        split or "test",
        split_rule,
        boxes,
        box_side,
        out,
        resamples=resamples,
        seed=seed,
    )
    print_table(LiteralConsole(), audit_table(found))
    typer.echo(f"{out / AUDIT_NAME}\n{out / SHEET_NAME}")
