"""`chexvision shards`: radiographs, or synthetic images, to Parquet shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from chexvision.errors import ChexError, UsageError

if TYPE_CHECKING:
    from chexvision.hub.reference import Reference, RepoRef
    from chexvision.shards.build import BuildOptions
    from chexvision.shards.manifest import Manifest, ShardEntry

app = typer.Typer(
    help="Build, synthesize, verify, inspect and push Parquet shards.", no_args_is_help=True, rich_markup_mode=None
)

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "B": 1, "": 1}

Out = Annotated[Path, typer.Option("--out", help="Folder to make.", show_default=False)]
Size = Annotated[int, typer.Option("--size", min=32, max=4096, help="Side of the stored images in pixels.")]
Encoding = Annotated[Literal["png", "jpeg"], typer.Option("--encoding", help="png is lossless.")]
ShardSize = Annotated[str, typer.Option("--shard-size", help="The largest size of a shard: 256MB, 1GiB, …")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Threads.  [default: all cores]")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the shards in --out.")]
MaxBad = Annotated[
    float, typer.Option("--max-bad", min=0, max=1, help="The largest share of bad images to leave out.")
]
Private = Annotated[bool, typer.Option("--private", help="Create the dataset as private.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of all random choices.")]


@app.command()
def build(
    images: Annotated[
        list[Path], typer.Option("--images", help="Folder of PNG, JPEG or DICOM files, .tar.gz or .zip; repeatable.")
    ],
    metadata: Annotated[
        Path | None,
        typer.Option("--metadata", help="Data_Entry_2017*.csv, plain or .gz.  [default: the one below --images]"),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="Your own table, instead of --metadata; needs --map."),
    ] = None,
    label_map: Annotated[
        str | None,
        typer.Option("--map", help="What its columns mean: a YAML file (chexvision labels template), or chexpert, …"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to make; it is complete or not made at all.")
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            "--work", help="Make WORK/shards; if interrupted, the same command continues after finished shards."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            help="official, patient, or a patient_id,split table.  [default: official if its lists are there]",
        ),
    ] = None,
    size: Size = 320,
    encoding: Encoding = "png",
    shard_size: ShardSize = "256MB",
    workers: Workers = None,
    seed: Seed = 0,
    max_bad: MaxBad = 0.001,
    overwrite: Overwrite = False,
    to: Annotated[
        str | None, typer.Option("--to", metavar="USER/NAME", help="(--work) Push the shards to this dataset.")
    ] = None,
    private: Private = False,
    max_hours: Annotated[
        float | None, typer.Option("--max-hours", help="(--work) Stop after so many hours and keep finished shards.")
    ] = None,
    provenance: Annotated[Path | None, typer.Option(help="Written by dispatch.", hidden=True)] = None,
) -> None:
    """Turn radiographs, of the release or with your own labels, into Parquet shards, split by patient."""
    from chexvision.nih.metadata import find_metadata
    from chexvision.parallel import usable_cores
    from chexvision.shards.build import BuildOptions, build_shards

    if (out is None) == (work is None):
        raise UsageError("name a folder to make with --out, or one to work in, and to continue in, with --work")
    if work is not None and overwrite:
        raise UsageError("--overwrite is for --out; with --work name another folder, or delete the files in this one")
    if work is None and (to is not None or max_hours is not None):
        raise UsageError("--to and --max-hours need --work; or push a finished folder with: chexvision shards push")
    if (labels is None) != (label_map is None):
        raise UsageError("your own labels need --labels CSV and --map MAP; chexvision labels template writes a map")
    if labels is not None and metadata is not None:
        raise UsageError("--metadata is the release's and --labels your own: give one of them")
    options = BuildOptions(
        split=split,
        label_map=label_map,
        size=size,
        encoding=encoding,
        shard_bytes=parse_bytes(shard_size),
        workers=workers or usable_cores(),
        seed=seed,
        max_bad=max_bad,
        overwrite=overwrite,
    )
    metadata = labels or metadata or find_metadata(images)
    if work is not None:
        _build_in(work, images, metadata, options, to, private, max_hours, provenance)
    elif out is not None:
        _show_built(build_shards(images, metadata, out, options), out)


def _build_in(
    work: Path,
    images: list[Path],
    metadata: Path,
    options: BuildOptions,
    to: str | None,
    private: bool,
    max_hours: float | None,
    provenance: Path | None,
) -> None:
    """Build in a session, which may be interrupted and continued later."""
    from chexvision.provenance import Provenance, new_run_id
    from chexvision.runs.branch import RunBranch
    from chexvision.runs.build_session import BuildProgress, build_and_push
    from chexvision.runs.run_progress import read_progress

    if max_hours is not None and not max_hours > 0:
        raise UsageError(f"--max-hours {max_hours:g} must be above 0")
    begun = read_progress(work)
    if provenance is not None:
        run_id = Provenance.read(provenance).run_id
    else:
        run_id = begun.run_id if begun is not None else new_run_id("shards")
    dataset = dataset_name("--to", to) if to is not None else None
    branch = RunBranch(dataset.repo_id, run_id, repo_type="dataset", private=private) if dataset else None
    progress = BuildProgress(work, run_id, max_hours=max_hours, branch=branch)
    with progress.session:
        manifest, pushed = build_and_push(images, metadata, options, progress, dataset, private=private)
    if manifest is not None:
        _show_built(manifest, progress.out)
    if pushed is not None:
        typer.echo(f"published: {pushed}")


def _show_built(manifest: Manifest, out: Path) -> None:
    for image in manifest.bad:
        typer.echo(f"left out {image.name}: {image.reason}", err=True)
    _print_summary(manifest, out)
    if ages := manifest.impossible_ages:
        typer.echo(f"impossible ages: {len(ages):,}, stored as null; the first is {ages[0].age} of {ages[0].name}")


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
) -> None:
    """Render synthetic radiographs that show NIH's 14 findings, to try things out without data."""
    from chexvision.parallel import usable_cores
    from chexvision.synthetic.synthesize import synthesize as run

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


def _resolved(where: str) -> Reference:
    from chexvision.hub.reference import parse_reference
    from chexvision.hub.repository import resolve_revision

    reference = parse_reference(where)
    return reference if isinstance(reference, Path) else resolve_revision(reference, "dataset")


def dataset_name(option: str, text: str) -> RepoRef:
    """The dataset that `option` names, without a revision.

    Raises:
        UsageError: it names something else.
    """
    from chexvision.hub.reference import RepoRef, parse_reference

    reference = parse_reference(text)
    if not isinstance(reference, RepoRef) or reference.revision is not None:
        raise UsageError(f"{option} {text} is not a dataset's name; write USER/NAME")
    return reference


def parse_bytes(text: str) -> int:
    """Read a size such as ``256MB``, ``1.5 GiB`` or ``1000000``.

    Raises:
        UsageError: the text is not a positive number with a known unit.
    """
    number = text.strip().rstrip("KMGIBkmgib ")
    unit = text.strip()[len(number) :].strip().upper()
    try:
        size = round(float(number) * _UNITS[unit])
    except (KeyError, ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise UsageError(f"--shard-size {text!r} is not a size; write for instance 256MB")
    return size


def _print_summary(manifest: Manifest, out: Path) -> None:
    from chexvision.shards.info import aligned

    rows = [("split", ["images", "patients", "shards", "bytes/image", "bad images"])]
    for name, counts in manifest.splits.items():
        shards = [shard for shard in manifest.shards if shard.split == name]
        rows.append((name, [*_cells(counts.images, counts.patients, shards), ""]))
    patients = sum(counts.patients for counts in manifest.splits.values())
    rows.append(("all", [*_cells(manifest.images, patients, manifest.shards), f"{len(manifest.bad):,}"]))
    typer.echo("\n".join([*aligned(rows), f"shards in {out}"]))


def _cells(images: int, patients: int, shards: Sequence[ShardEntry]) -> tuple[str, ...]:
    size = sum(shard.bytes for shard in shards)
    return f"{images:,}", f"{patients:,}", str(len(shards)), f"{size / max(images, 1):,.0f}"
