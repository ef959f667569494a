"""`chexvision predict`: what a published model says about images."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chexvision.cli.models import AnyView, Device, Engine, Precision
from chexvision.config.test_time import Tta

if TYPE_CHECKING:
    from chexvision.predict.inputs import Source
    from chexvision.predict.journal import Journal
    from chexvision.predict.predictor import Predictor
    from chexvision.report.prediction_tables import Tally


def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder, or USER/REPO[@REV] on the Hub.")],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="PNG, JPEG or DICOM files, folders, archives, patterns in quotes; - reads their names from stdin.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Write all results to this .csv, .jsonl or .parquet file; continues what was cut off."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    explain: Annotated[
        Path | None,
        typer.Option("--explain", metavar="DIR", help="Write overlays of each image's 3 most probable findings."),
    ] = None,
    any_view: AnyView = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="No answer for images that the model may not be valid for.")
    ] = False,
    tta: Annotated[
        Tta, typer.Option(help="Average the probabilities over views of each image; views: as it is, flipped, ±7°.")
    ] = "none",
    engine: Engine = "auto",
    device: Device = "auto",
    precision: Annotated[
        Precision, typer.Option(help="To compute in; auto is faster, fp32 the same on every machine.")
    ] = "fp32",
) -> None:
    """Print normal/abnormal and the findings' probabilities for each image. Research only."""
    import json
    import sys

    from chexvision.errors import ChexError
    from chexvision.inference.load_predictor import load_predictor
    from chexvision.predict.inputs import find_sources
    from chexvision.predict.journal import refuse_unwritable
    from chexvision.report.prediction_tables import Tally

    if out is not None:
        refuse_unwritable(out)
    sources = find_sources(images, sys.stdin)
    if explain is not None:
        _refuse_archives(sources)
    predictor = load_predictor(model, engine, device, precision, tta)
    for notice in predictor.facts.notices:
        typer.echo(f"warning: {notice}", err=True)
    if tta != "none" and (predictor.facts.calibrated or predictor.facts.rule):
        typer.echo(f"note: calibration and thresholds of {model} were chosen without {tta}", err=True)
    tally = Tally(keep_all=as_json)
    with _journal(out, model, predictor, sources, _options(tta, any_view=any_view, strict=strict)) as journal:
        _compute(predictor, sources, journal, tally, any_view=any_view, strict=strict)
    if explain is not None:
        answered = [Path(sources[i].path) for i in tally.answered]
        _explain(predictor, answered, explain, tta, any_view=any_view)
    if as_json:
        rows = [result.model_dump(mode="json") for result in tally.kept]
        typer.echo(json.dumps(rows, indent=2, allow_nan=False))
    else:
        _print_tables(tally, predictor)
    if out is not None:
        typer.echo(str(out), err=True)
    if tally.reasons:
        raise ChexError(_no_answers(tally))


def _compute(
    predictor: Predictor,
    sources: Sequence[Source],
    journal: Journal | None,
    tally: Tally,
    *,
    any_view: bool,
    strict: bool,
) -> None:
    """Predict what an earlier command has not, and count all results."""
    from chexvision.predict.predictor import BATCH
    from chexvision.predict.result import results_of
    from chexvision.progress import Progress

    done = 0
    if journal is not None:
        for result in journal.results():
            tally.add(result)
        done = journal.done
        if done:
            typer.echo(f"note: going on after {done:,} of {len(sources):,} images", err=True)
    with Progress("predicting", len(sources), "images", done) as progress:
        for result in results_of(predictor, sources[done:], any_view=any_view, strict=strict):
            if journal is not None:
                journal.add(result)
            tally.add(result)
            if tally.images % BATCH == 0 or tally.images == len(sources):  # the results of a batch come at once
                progress.advance(tally.images - progress.done)
        tally.rate = progress.rate
    if journal is not None:
        journal.finish()


def _journal(
    out: Path | None, model: str, predictor: Predictor, sources: Sequence[Source], options: tuple[str, ...]
) -> AbstractContextManager[Journal | None]:
    """The results that are to be written to `out`; None without one."""
    from contextlib import nullcontext

    from chexvision.hub.reference import parse_reference
    from chexvision.predict.inputs import sha256_of_sources
    from chexvision.predict.journal import About, open_journal
    from chexvision.predict.published import sha256_of_folder

    if out is None:
        return nullcontext()
    reference = parse_reference(model)
    about = About(
        model=predictor.facts,
        model_files=sha256_of_folder(reference) if isinstance(reference, Path) else str(predictor.facts),
        engine=predictor.engine.name,
        outputs=predictor.engine.label_space.outputs,
        options=options,
        images=len(sources),
        images_sha256=sha256_of_sources(sources),
    )
    return open_journal(out, about)


def _options(tta: Tta, *, any_view: bool, strict: bool) -> tuple[str, ...]:
    """Those that change what is answered."""
    return (f"--tta {tta}", *(["--any-view"] if any_view else []), *(["--strict"] if strict else []))


def _print_tables(tally: Tally, predictor: Predictor) -> None:
    from chexvision.console import LiteralConsole
    from chexvision.report.table import print_table

    console = LiteralConsole()
    for table in tally.tables(predictor.facts, console.width):
        print_table(console, table)


def _refuse_archives(sources: Sequence[Source]) -> None:
    from chexvision.errors import UsageError

    for source in sources:
        if source.found.file is None:
            raise UsageError(f"--explain takes files, and {source.path} is in an archive; unpack it first")


def _no_answers(tally: Tally) -> str:
    """The error of images without an answer. If there are several, their reasons are printed before."""
    count = f"{tally.reasons.total():,} of {tally.images:,} images have no answer"
    reasons = tally.failures()
    if len(reasons) == 1:
        return f"{reasons[0]} ({count})"
    for line in reasons:
        typer.echo(line, err=True)
    return count


def _explain(predictor: Predictor, paths: Sequence[Path], out: Path, tta: Tta, *, any_view: bool) -> None:
    from chexvision.explain.image_maps import explain_images

    if tta != "none":
        typer.echo(f"note: the maps are of the image alone, without {tta}", err=True)
    for explained in explain_images(predictor, paths, out, any_view=any_view):
        for one in explained.overlays:
            typer.echo(f"{out / one.overlay}", err=True)
