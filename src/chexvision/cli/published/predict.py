"""`chexvision predict`: what a published model says about images."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from chexvision.cli.clusters.options import Address, On, Workers, refuse_workers
from chexvision.cli.models import AnyView, Device, Engine, Precision
from chexvision.config.test_time import Tta

if TYPE_CHECKING:
    from chexvision.predict.answer import ModelFacts
    from chexvision.predict.inputs import Source
    from chexvision.predict.journal import Journal
    from chexvision.predict.predictor import Predictor
    from chexvision.predict.result import Result
    from chexvision.report.prediction_tables import Tally


def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder, or USER/REPO[@REV] on the Hub.")],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="PNG, JPEG or DICOM files, folders, archives, patterns in quotes, URLs of folders such as s3://…; - "
            "reads their names from stdin.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write all results to this .csv, .jsonl or .parquet file or folder; continues what was cut off."
        ),
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
    on: On = "here",
    address: Address = "",
    workers: Workers = None,
) -> None:
    """Print normal/abnormal and the findings' probabilities for each image. Research only."""
    import json

    from chexvision.errors import ChexError
    from chexvision.report.prediction_tables import Tally

    refuse_workers(on, workers)
    asked = _Asked(model, images, out, explain, any_view, strict, tta, engine, device, precision)
    tally = Tally(keep_all=as_json)
    facts = _on_ray(asked, tally, address, workers) if on == "ray" else _here(asked, tally)
    if as_json:
        rows = [result.model_dump(mode="json") for result in tally.kept]
        typer.echo(json.dumps(rows, indent=2, allow_nan=False))
    else:
        _print_tables(tally, facts)
    if out is not None:
        typer.echo(str(out), err=True)
    if tally.reasons:
        raise ChexError(_no_answers(tally))


@dataclass(frozen=True, slots=True)
class _Asked:
    """What was typed; the options' own help describes each."""

    model: str
    images: list[str]
    out: Path | None
    explain: Path | None
    any_view: bool
    strict: bool
    tta: Tta
    engine: Literal["auto", "torch", "onnx", "openvino"]
    device: Literal["auto", "cpu", "cuda", "mps"]
    precision: Precision


def _here(asked: _Asked, tally: Tally) -> ModelFacts:
    """Predict on this machine."""
    import sys

    from chexvision.inference.load_predictor import load_predictor
    from chexvision.predict.inputs import find_sources
    from chexvision.predict.journal import refuse_unwritable

    if asked.out is not None:
        refuse_unwritable(asked.out)
    sources = find_sources(asked.images, sys.stdin)
    if asked.explain is not None:
        _refuse_archives(sources)
    predictor = load_predictor(asked.model, asked.engine, asked.device, asked.precision, asked.tta)
    _print_notices(predictor.facts, asked)
    answered: list[Path] | None = None if asked.explain is None else []
    with _journal(asked, predictor, sources) as journal:
        _compute(predictor, sources, journal, tally, asked, answered)
    if asked.explain is not None and answered is not None:
        _explain(predictor, answered, asked.explain, asked.tta, any_view=asked.any_view)
    return predictor.facts


def _on_ray(asked: _Asked, tally: Tally, address: str, workers: int | None) -> ModelFacts:
    """Predict on a Ray cluster."""
    import sys

    from chexvision.cluster.connect import connected
    from chexvision.cluster.predict_tasks import Asked
    from chexvision.cluster.ray_predict import predict_on_ray
    from chexvision.errors import UsageError
    from chexvision.predict.inputs import each_source
    from chexvision.predict.journal import About, refuse_unwritable

    if asked.out is None:
        raise UsageError("--on ray needs --out, the file or folder of the results")
    if asked.explain is not None:
        raise UsageError("--explain is for --on here; leave it out, and explain the images that matter")
    refuse_unwritable(asked.out)
    found: list[ModelFacts] = []

    def announce(about: About, done: int, images: int) -> None:
        found.append(about.model)
        _print_notices(about.model, asked)
        _print_continuation(done, images)

    how = Asked(
        _as_nodes_find_it(asked.model),
        str(Path.cwd()),
        asked.engine,
        asked.device,
        asked.precision,
        asked.tta,
        any_view=asked.any_view,
        strict=asked.strict,
    )
    with connected(address):
        tally.rate = predict_on_ray(
            how, each_source(asked.images, sys.stdin), asked.out, workers=workers, announce=announce, seen=tally.add
        )
    return found[0]


def _as_nodes_find_it(model: str) -> str:
    """A folder by its absolute path, since a worker runs in another; a repository at the commit it has now."""
    from chexvision.hub.reference import parse_reference
    from chexvision.hub.repository import resolve_revision

    reference = parse_reference(model)
    return str(reference.resolve() if isinstance(reference, Path) else resolve_revision(reference, "model"))


def _print_notices(facts: ModelFacts, asked: _Asked) -> None:
    for notice in facts.notices:
        typer.echo(f"warning: {notice}", err=True)
    if asked.tta != "none" and (facts.calibrated or facts.rule):
        typer.echo(f"note: calibration and thresholds of {asked.model} were chosen without {asked.tta}", err=True)


def _print_continuation(done: int, images: int) -> None:
    if done:
        typer.echo(f"note: going on after {done:,} of {images:,} images", err=True)


def _compute(
    predictor: Predictor,
    sources: Sequence[Source],
    journal: Journal | None,
    tally: Tally,
    asked: _Asked,
    answered: list[Path] | None,
) -> None:
    """Predict what an earlier command has not, and count all results; the images with an answer go to `answered`."""
    from chexvision.predict.predictor import BATCH
    from chexvision.predict.result import results_of
    from chexvision.progress import Progress

    def add(result: Result) -> None:
        if answered is not None and result.status == "ok":
            answered.append(Path(sources[tally.images].path))
        tally.add(result)

    done = 0
    if journal is not None:
        for result in journal.results():
            add(result)
        done = journal.done
        _print_continuation(done, len(sources))
    with Progress("predicting", len(sources), "images", done) as progress:
        for result in results_of(predictor, sources[done:], any_view=asked.any_view, strict=asked.strict):
            if journal is not None:
                journal.add(result)
            add(result)
            if tally.images % BATCH == 0 or tally.images == len(sources):  # the results of a batch come at once
                progress.advance(tally.images - progress.done)
        tally.rate = progress.rate
    if journal is not None:
        journal.finish()


def _journal(
    asked: _Asked, predictor: Predictor, sources: Sequence[Source]
) -> AbstractContextManager[Journal | None]:
    """The results that are to be written to a file; None without one."""
    from contextlib import nullcontext

    from chexvision.predict.inputs import sha256_of_sources
    from chexvision.predict.journal import about_model, open_journal

    if asked.out is None:
        return nullcontext()
    about = about_model(asked.model, predictor, asked.tta, any_view=asked.any_view, strict=asked.strict)
    of = {"images": len(sources), "images_sha256": sha256_of_sources(sources)}
    return open_journal(asked.out, about.model_copy(update=of))


def _print_tables(tally: Tally, facts: ModelFacts) -> None:
    from chexvision.console import LiteralConsole
    from chexvision.report.table import print_table

    console = LiteralConsole()
    for table in tally.tables(facts, console.width):
        print_table(console, table)


def _refuse_archives(sources: Sequence[Source]) -> None:
    from chexvision.errors import UsageError

    for source in sources:
        if source.found.file is None:
            raise UsageError(f"--explain takes files, and {source.path} is not in a folder; copy it to a disk first")


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
