"""`chexvision export`: a published model as files that need no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from chexvision.errors import UsageError

if TYPE_CHECKING:
    from chexvision.images.radiograph import Grey

_MOST_IMAGES = 16


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder, or USER/REPO[@REV] on the Hub.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for onnx/.  [default: MODEL, a folder]", show_default=False),
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="Add the files to this model: USER/REPO, or a folder.", show_default=False)
    ] = None,
    quantize: Annotated[
        Literal["int8"] | None, typer.Option(help="Also write a smaller file; --data measures what it loses.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="IMAGES", help="Radiographs to compare with torch on.  [default: synthetic ones]"),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Shards, a folder or USER/NAME@<sha>, to quantize with.", show_default=False)
    ] = None,
) -> None:
    """Write a model as ONNX, compared with torch: image in, calibrated probabilities and maps out."""
    from chexvision.hub.reference import RepoRef, parse_reference

    if data is not None and quantize is None:
        raise UsageError("--data is to quantize with: add --quantize int8, or leave it out")
    if out is not None and to is not None:
        raise UsageError("--out and --to exclude each other; keep one of them")
    reference = parse_reference(model)
    if isinstance(reference, RepoRef) and out is None and to is None:
        raise UsageError(f"name where the files of {model} go: --out FOLDER, or --to {reference.repo_id}")

    from chexvision.export.run_export import run_export

    destination = parse_reference(to) if to is not None else out if out is not None else reference
    shards = parse_reference(data) if data is not None else None
    exported = run_export(reference, destination, _originals(against or []), quantize is not None, shards)
    for name, file in exported.info.files.items():
        loss = (
            "" if file.auroc_difference is None else f", macro AUROC {file.auroc_difference:+.4f} on {file.auroc_on}"
        )
        typer.echo(
            f"{name}: {file.bytes / 1e6:.1f} MB, probabilities within {file.largest_difference:.1e} of torch on "
            f"{file.images} images{loss}"
        )
    typer.echo(f"maps: {exported.info.map_method or f'none, {exported.info.without_maps}'}")
    typer.echo(exported.address)


def _originals(words: list[str]) -> list[Grey]:
    """The pixels of the first images that are named."""
    from chexvision.images.reading import read_radiograph
    from chexvision.predict.inputs import find_sources, read_sources

    if not words:
        return []
    images: list[Grey] = []
    for name, read in read_sources(find_sources(words, ())[:_MOST_IMAGES]):
        try:
            images.append(read_radiograph(read()).pixels)
        except (OSError, ValueError) as error:
            raise UsageError(f"--against {name}: {getattr(error, 'strerror', None) or error}") from None
    return images
