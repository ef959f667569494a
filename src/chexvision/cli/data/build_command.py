"""`chexvision shards build`: radiographs of a release, or one's own, to Parquet shards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from chexvision.cli.clusters.options import Address, On
from chexvision.cli.data import build_options as option
from chexvision.cli.data import shard_options as shard_option
from chexvision.cli.data.input_places import InputPlaces, input_places
from chexvision.errors import UsageError

if TYPE_CHECKING:
    from chexvision.shards.build import BuildOptions
    from chexvision.shards.manifest import Manifest


def build(
    images: option.Images = None,
    dataset: option.Dataset = None,
    metadata: option.Metadata = None,
    labels: option.Labels = None,
    views: option.WhichViews = "frontal",
    label_map: option.Map = None,
    out: option.OutOrUrl = None,
    work: option.Work = None,
    split: option.Split = None,
    size: shard_option.Size = 320,
    encoding: shard_option.Encoding = "png",
    shard_size: shard_option.ShardSize = "256MB",
    workers: shard_option.Workers = None,
    seed: shard_option.Seed = 0,
    max_bad: shard_option.MaxBad = 0.001,
    overwrite: shard_option.Overwrite = False,
    to: option.To = None,
    private: shard_option.Private = False,
    max_hours: option.MaxHours = None,
    ignore_times: option.IgnoreTimes = False,
    on: On = "here",
    address: Address = "",
    provenance: option.WrittenByDispatch = None,
) -> None:
    """Turn radiographs, of a release or with your own labels, into Parquet shards, split by patient."""
    from chexvision.parallel import usable_cores
    from chexvision.shards.build import BuildOptions

    if (out is None) == (work is None):
        raise UsageError("name a folder to make with --out, or one to work in, and to continue in, with --work")
    if work is not None and overwrite:
        raise UsageError("--overwrite is for --out; with --work name another folder, or delete the files in this one")
    if work is None and (to is not None or max_hours is not None):
        raise UsageError("--to and --max-hours need --work; or push a finished folder with: chexvision shards push")
    if work is not None and on == "ray":
        raise UsageError("--work is for one machine; with --on ray name --out: it continues after finished shards")
    dataset = _checked_set(dataset, images, metadata, labels, label_map)
    _check_terms(dataset, out or "", to, private)
    options = BuildOptions(
        split=split,
        dataset=dataset,
        label_map=label_map,
        views=views,
        public=(to is not None and not private) or (out or "").startswith("hf://"),
        size=size,
        encoding=encoding,
        shard_bytes=shard_option.parse_bytes(shard_size),
        workers=workers or (usable_cores() if on == "here" else 0),
        seed=seed,
        max_bad=max_bad,
        overwrite=overwrite,
        ignore_times=ignore_times,
    )
    with input_places(images or [], "--metadata" if labels is None else "--labels", labels or metadata) as places:
        if work is not None:
            if places.remote:
                raise UsageError("--work needs --images on this machine; with a URL use --out")
            _build_in(work, places.images, places.table, options, to, private, max_hours, provenance)
        elif out is not None:
            _build_out(out, places, options, address if on == "ray" else None)


def _checked_set(
    dataset: str | None, images: list[str] | None, metadata: str | None, labels: str | None, label_map: str | None
) -> str:
    """The set that is meant; its other inputs fit it."""
    from chexvision.releases.sets import set_of

    if labels is not None and metadata is not None:
        raise UsageError("--metadata is the release's and --labels your own: give one of them")
    dataset = dataset or ("nih" if labels is None and label_map is None else "csv")
    chosen = set_of(dataset)
    if labels is not None and dataset != "csv":
        raise UsageError(f"--labels is your own table, --set csv; the tables of --set {dataset} go to --metadata")
    if label_map is not None and not chosen.takes_map:
        raise UsageError(f"--set {dataset} has labels of its own; --map is for --set csv and hub:")
    if chosen.needs_images and not images:
        raise UsageError("name the folder with the images with --images")
    return dataset


def _check_terms(dataset: str, out: str, to: str | None, private: bool) -> None:
    """Nothing is built that its terms do not allow to publish, where it would be published."""
    from chexvision.releases.sets import set_of
    from chexvision.releases.terms import check_private
    from chexvision.shards.push import create_private

    terms = set_of(dataset).terms
    if out.startswith("hf://"):
        check_private(terms, "--out", private=False)
    if to is not None:
        check_private(terms, "--to", private=private)
        if terms is not None and terms.credentialed:
            create_private(shard_option.dataset_name("--to", to).repo_id)


def _build_out(out: str, places: InputPlaces, options: BuildOptions, address: str | None) -> None:
    """Build on this machine, or, if there is an address, on the cluster there."""
    from chexvision.files.remote_folder import is_url, remote_folder
    from chexvision.shards.build import build_shards

    where = remote_folder("--out", out) if is_url(out) else Path(out)
    images, table, remote = places.images, places.table, places.remote
    if address is None:
        manifest = build_shards(images, table, where, options, remote=remote)
    else:
        from chexvision.cluster.connect import connected
        from chexvision.cluster.ray_build import shards_on

        # Tasks run in other folders than this process.
        images = [place.absolute() for place in images]
        table = table.absolute() if table is not None else None
        with connected(address) as cluster:
            on_cluster = shards_on(cluster)
            manifest = build_shards(images, table, where, options, make=on_cluster, kept=True, remote=remote)
    _show_built(manifest, out)


def _build_in(
    work: Path,
    images: list[Path],
    metadata: Path | None,
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
    dataset = shard_option.dataset_name("--to", to) if to is not None else None
    branch = RunBranch(dataset.repo_id, run_id, repo_type="dataset", private=private) if dataset else None
    progress = BuildProgress(work, run_id, max_hours=max_hours, branch=branch)
    with progress.session:
        manifest, pushed = build_and_push(images, metadata, options, progress, dataset, private=private)
    if manifest is not None:
        _show_built(manifest, progress.out)
    if pushed is not None:
        typer.echo(f"published: {pushed}")


def _show_built(manifest: Manifest, out: Path | str) -> None:
    for image in manifest.bad:
        typer.echo(f"left out {image.name}: {image.reason}", err=True)
    for left_out in manifest.left_out:
        typer.echo(f"left out on purpose: {left_out.images:,} images: {left_out.reason}")
    shard_option.print_summary(manifest, out)
    if manifest.dataset is not None and not manifest.dataset.knows_patients:
        typer.echo("the release does not say which images are of one person: every image counts as a patient")
    if ages := manifest.impossible_ages:
        typer.echo(f"impossible ages: {len(ages):,}, stored as null; the first is {ages[0].age} of {ages[0].name}")
