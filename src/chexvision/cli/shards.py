"""`chexvision shards`: raw radiographs, or none at all, to Parquet shards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from chexvision.errors import ChexError, UsageError

if TYPE_CHECKING:
    from chexvision.shards.manifest import Manifest

app = typer.Typer(
    help="Build, draw, verify, look at and push Parquet shards.", no_args_is_help=True, rich_markup_mode=None
)

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "B": 1, "": 1}

Out = Annotated[Path, typer.Option("--out", help="Folder to make.", show_default=False)]
Size = Annotated[int, typer.Option("--size", min=32, max=4096, help="Side of the stored images in pixels.")]
Encoding = Annotated[Literal["png", "jpeg"], typer.Option("--encoding", help="png is lossless.")]
ShardSize = Annotated[str, typer.Option("--shard-size", help="The most a shard takes: 256MB, 1GiB, …")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Threads.  [default: all cores]")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the shards that --out holds.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of all random choices.")]


@app.command()
def build(
    images: Annotated[
        list[Path], typer.Option("--images", help="Folder (images_001/images/*.png), .tar.gz or .zip; repeatable.")
    ],
    metadata: Annotated[Path, typer.Option("--metadata", help="Data_Entry_2017*.csv, plain or .gz.")],
    out: Out,
    split: Annotated[
        str | None,
        typer.Option("--split", help="official, patient, or a patient_id,split table.  [default: what fits]"),
    ] = None,
    size: Size = 320,
    encoding: Encoding = "png",
    shard_size: ShardSize = "256MB",
    workers: Workers = None,
    seed: Seed = 0,
    max_bad: Annotated[
        float, typer.Option("--max-bad", min=0, max=1, help="The share of bad images to go on without.")
    ] = 0.001,
    overwrite: Overwrite = False,
) -> None:
    """Turn radiographs in the release's layout into Parquet shards, split by patient."""
    from chexvision.shards.build import BuildOptions, build_shards
    from chexvision.shards.parallel import usable_cores

    options = BuildOptions(
        split=split,
        size=size,
        encoding=encoding,
        shard_bytes=parse_bytes(shard_size),
        workers=workers or usable_cores(),
        seed=seed,
        max_bad=max_bad,
        overwrite=overwrite,
    )
    manifest = build_shards(images, metadata, out, options)
    for image in manifest.bad:
        typer.echo(f"left out {image.name}: {image.reason}", err=True)
    _print_summary(manifest, out)


@app.command()
def verify(
    where: Annotated[str, typer.Argument(metavar="DIR|USER/NAME@SHA", help="A shard folder, or a dataset's sha.")],
    sample: Annotated[int, typer.Option("--sample", min=0, help="How many images to decode; 0 for all.")] = 500,
    seed: Seed = 0,
    workers: Workers = None,
) -> None:
    """Check hashes, schema, counts and patients, and in a folder a sample of the images.

    Of a dataset on the Hub, sizes, hashes and labels are read over the network; its images are not fetched.
    """
    from chexvision.hub.reference import parse_reference
    from chexvision.shards.parallel import usable_cores
    from chexvision.shards.remote import pinned
    from chexvision.shards.verify import verify_remote, verify_shards

    reference = parse_reference(where)
    if isinstance(reference, Path):
        checks = verify_shards(reference, sample=sample, seed=seed, workers=workers or usable_cores())
    else:
        reference = pinned(reference)
        checks = verify_remote(reference)
    failed = []
    for check in checks:
        typer.echo(str(check))
        if not check.ok:
            failed.append(check.name)
    if failed:
        raise ChexError(f"{reference} failed {len(failed)} checks: {', '.join(failed)}")


@app.command()
def info(
    where: Annotated[str, typer.Argument(metavar="DIR|USER/NAME@SHA", help="A shard folder, or a dataset's sha.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    plots: Annotated[
        Path | None, typer.Option("--plots", metavar="DIR", help="Draw the same, and more, as SVG files.")
    ] = None,
) -> None:
    """Count images, patients, findings, ages, sexes and views of each split, without fetching any image."""
    import json

    from chexvision.hub.reference import parse_reference
    from chexvision.shards.info import describe, lines
    from chexvision.shards.place import folder_place
    from chexvision.shards.remote import hub_place, list_files, pinned

    reference = parse_reference(where)
    if isinstance(reference, Path):
        place = folder_place(reference)
    else:
        reference = pinned(reference)
        place = hub_place(reference, list_files(reference))
    found = describe(place)
    typer.echo(json.dumps(found.as_dict(), indent=2) if as_json else "\n".join(lines(found)))
    if plots is not None:
        from chexvision.shards.plots import write_plots

        for path in write_plots(place, plots):
            typer.echo(str(path), err=as_json)


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A shard folder.")],
    repo: Annotated[str, typer.Option("--repo", metavar="USER/NAME", help="The dataset, created if need be.")],
    private: Annotated[bool, typer.Option("--private", help="Create it so that only you see it.")] = False,
) -> None:
    """Verify a shard folder, upload it to the Hub and print USER/NAME@SHA. Call again to go on after a failure."""
    from chexvision.hub.reference import RepoRef, parse_reference
    from chexvision.shards.push import push_shards

    reference = parse_reference(repo)
    if not isinstance(reference, RepoRef) or reference.revision is not None:
        raise UsageError(f"--repo {repo} is no dataset's name; write USER/NAME")
    typer.echo(str(push_shards(folder, reference.repo_id, private=private)))


@app.command()
def synthesize(
    out: Out,
    images: Annotated[int, typer.Option("--images", min=3, help="How many pictures to draw.")],
    seed: Seed = 0,
    size: Size = 320,
    encoding: Encoding = "png",
    shard_size: ShardSize = "256MB",
    workers: Workers = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw radiograph-like pictures that show the 14 findings, to try things out without data."""
    from chexvision.shards.parallel import usable_cores
    from chexvision.shards.synthesize import synthesize as run

    manifest = run(
        out,
        images=images,
        seed=seed,
        size=size,
        encoding=encoding,
        shard_bytes=parse_bytes(shard_size),
        workers=workers or usable_cores(),
        overwrite=overwrite,
    )
    _print_summary(manifest, out)


def parse_bytes(text: str) -> int:
    """Read a size such as ``256MB``, ``1.5 GiB`` or ``1000000``.

    Raises:
        UsageError: the text is no positive number with a known unit.
    """
    number = text.strip().rstrip("KMGIBkmgib ")
    unit = text.strip()[len(number) :].strip().upper()
    try:
        size = round(float(number) * _UNITS[unit])
    except (KeyError, ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise UsageError(f"--shard-size {text!r} is no size; write for instance 256MB")
    return size


def _print_summary(manifest: Manifest, out: Path) -> None:
    heads = ("split", "images", "patients", "shards", "bytes/image", "bad images")
    lines = [heads]
    for name, counts in manifest.splits.items():
        shards = [shard for shard in manifest.shards if shard.split == name]
        each = sum(shard.bytes for shard in shards) / counts.images
        lines.append((name, f"{counts.images:,}", f"{counts.patients:,}", str(len(shards)), f"{each:,.0f}", ""))
    each = sum(shard.bytes for shard in manifest.shards) / max(manifest.images, 1)
    patients = sum(counts.patients for counts in manifest.splits.values())
    total = (f"{manifest.images:,}", f"{patients:,}", str(len(manifest.shards)), f"{each:,.0f}")
    lines.append(("all", *total, f"{len(manifest.bad):,}"))
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    for line in lines:
        cells = [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        typer.echo("  ".join(cells).rstrip())
    typer.echo(f"shards in {out}")
