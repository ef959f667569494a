"""`chexvision shards`: radiographs, or synthetic images, to Parquet shards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chexvision.cli.data.build_command import build
from chexvision.cli.data.shard_options import (
    Encoding,
    Out,
    Overwrite,
    Private,
    Seed,
    ShardSize,
    Size,
    Workers,
    dataset_name,
    parse_bytes,
    print_summary,
)
from chexvision.errors import ChexError, UsageError

if TYPE_CHECKING:
    from chexvision.hub.reference import Reference

app = typer.Typer(
    help="Build, synthesize, verify, inspect and push Parquet shards.", no_args_is_help=True, rich_markup_mode=None
)
app.command()(build)


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
    from chexvision.parallel import usable_cores
    from chexvision.shards.verify import verify_remote, verify_shards

    reference = _resolved(where)
    if isinstance(reference, Path):
        checks = verify_shards(reference, sample=sample, seed=seed, workers=workers or usable_cores())
    else:
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
        Path | None, typer.Option("--plots", metavar="DIR", help="Also write plots as SVG files.")
    ] = None,
) -> None:
    """Count images, patients, findings, ages, sexes and views of each split, without fetching images."""
    import json
    from dataclasses import asdict

    from chexvision.shards.columns import folder_place
    from chexvision.shards.info import describe, lines
    from chexvision.shards.remote import hub_place, list_files

    reference = _resolved(where)
    place = folder_place(reference) if isinstance(reference, Path) else hub_place(reference, list_files(reference))
    found = describe(place)
    typer.echo(json.dumps(asdict(found), indent=2) if as_json else "\n".join(lines(found)))
    if plots is not None:
        from chexvision.report.dataset_charts import write_plots

        for path in write_plots(place, plots):
            typer.echo(str(path), err=as_json)


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A shard folder.")],
    repo: Annotated[str, typer.Option("--repo", metavar="USER/NAME", help="The dataset, created if need be.")],
    private: Private = False,
) -> None:
    """Verify a shard folder, upload it to the Hub and print USER/NAME@SHA. Call again to continue after a failure."""
    from chexvision.shards.push import push_shards

    typer.echo(str(push_shards(folder, dataset_name("--repo", repo).repo_id, private=private)))


@app.command()
def synthesize(
    out: Out,
    images: Annotated[int, typer.Option("--images", min=3, help="How many images to render.")],
    seed: Seed = 0,
    size: Size = 320,
    encoding: Encoding = "png",
    shard_size: ShardSize = "256MB",
    workers: Workers = None,
    overwrite: Overwrite = False,
    release: Annotated[
        str | None,
        typer.Option(
            "--release",
            metavar="NAME",
            help="Write the folders and tables of a release instead, for shards build --set: chexpert, mimic, "
            "mimic-dicom, padchest, vindr, chestmnist.",
        ),
    ] = None,
) -> None:
    """Render synthetic radiographs that show NIH's 14 findings, to try things out without data."""
    from chexvision.parallel import usable_cores
    from chexvision.synthetic.layouts.write_release import write_release
    from chexvision.synthetic.synthesize import synthesize as run

    if release is not None:
        write_release(release, out, images=images, seed=seed, size=size)
        typer.echo(f"a synthetic release of {images:,} images in {out}")
        return

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
    print_summary(manifest, out)


def _resolved(where: str) -> Reference:
    from chexvision.hub.reference import parse_reference
    from chexvision.hub.repository import resolve_revision

    if "://" in where:
        protocol = where.partition("://")[0]
        raise UsageError(
            f"shards cannot be read from {protocol}:// by this command: copy the folder to this machine, or name a "
            "dataset of the Hub as USER/NAME[@SHA]"
        )
    reference = parse_reference(where)
    return reference if isinstance(reference, Path) else resolve_revision(reference, "dataset")
