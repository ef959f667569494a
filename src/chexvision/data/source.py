"""The shards of a run, in a folder or of a Hub dataset at a sha, and the size of their images."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO

from chexvision.config.data_config import DataConfig
from chexvision.errors import ChexError, UsageError
from chexvision.files.hashes import Hashes
from chexvision.hub.reference import Reference, RepoRef
from chexvision.images.preprocessing import LARGEST_SHARD_SIZE, Preprocessing
from chexvision.images.radiograph import decode_grey
from chexvision.labels import NIH, LabelSpace
from chexvision.shards.columns import (
    BadShard,
    ReadColumns,
    check_types,
    columns_of_file,
    encoded_images,
    opened_shard,
)
from chexvision.shards.download import cached_shards, download_shards
from chexvision.shards.manifest import Manifest, ShardEntry, difference, label_space_of, read_manifest
from chexvision.shards.remote import fetch_manifest, first_shard, hub_place, list_files
from chexvision.shards.schema import group_shards, list_shards

Shape = tuple[int, int]  # height and width in pixels
_ADVICE = "`chexvision shards verify` lists all differences; build or fetch the shards again"


@dataclass(frozen=True, slots=True)
class ShardSource:
    """Shards that are on this machine.

    Args:
        name: their name in records: ``USER/NAME@sha``, or the folder.
        shards: the Parquet files of each split, in order.
        identity: equal for shards of equal names and content, in any folder.
        synthetic: whether the images are synthetic, not taken of patients.
        label_space: of the labels.
        manifest: theirs, if they have one.
        columns: reads columns of one, without images.
    """

    name: str
    shards: dict[str, list[Path]]
    identity: str
    synthetic: bool
    label_space: LabelSpace = NIH
    manifest: Manifest | None = None
    columns: ReadColumns = columns_of_file


def find_shards(reference: Reference, needed: Collection[int] | None = None) -> ShardSource:
    """Locate the shards of `reference`, fetching them first if they are on the Hub.

    Args:
        reference: a folder, or a dataset.
        needed: the numbers of those whose images are used, all splits one after another. Of the others the hashes
            are taken from the manifest; they may be missing. None, or without a manifest: all.

    Raises:
        UsageError: a Hub dataset is not pinned to a sha, or a folder has no shards.
        ChexError: the download failed, or a shard is not valid.
    """
    if isinstance(reference, Path):
        return _source(str(reference.resolve()), reference, needed)
    check_named(reference)
    return _source(str(reference), download_shards(reference, needed), needed)


def find_labels(reference: Reference) -> ShardSource:
    """Locate the shards of `reference` for their labels: of those on the Hub no image is fetched.

    Files of its `shards` that the Hub's cache lacks are not there; a dataset without a manifest is fetched.

    Raises:
        UsageError: a Hub dataset is not pinned to a sha, or a folder has no shards.
        ChexError: it cannot be read, or a shard is not valid.
    """
    if isinstance(reference, Path):
        return find_shards(reference)
    check_named(reference)
    source = find_shards(reference, needed=()) if not cached_shards(reference) else find_shards(reference)
    if all(path.is_file() for paths in source.shards.values() for path in paths):
        return source
    place = hub_place(reference, list_files(reference))
    return replace(source, columns=lambda path, names: place.read(f"data/{path.name}", names)[1])


def _source(name: str, folder: Path, needed: Collection[int] | None) -> ShardSource:
    manifest = read_manifest(folder)
    if manifest is None or needed is None:
        needed, shards = None, list_shards(folder)
    else:
        data = folder / "data" if (folder / "data").is_dir() else folder
        grouped = group_shards((PurePosixPath(shard.path).name for shard in manifest.shards), name)
        shards = {split: [data / shard for shard in names] for split, names in grouped.items()}
    identity = _identity(shards, name, manifest, needed)
    synthetic = manifest is not None and manifest.synthetic
    return ShardSource(name, shards, identity, synthetic, label_space_of(manifest), manifest)


def check_named(reference: Reference) -> None:
    """Check, before anything is loaded or fetched, that `reference` can name shards.

    Raises:
        UsageError: a Hub dataset is not pinned to a sha, or a folder has no shards.
    """
    if isinstance(reference, Path):
        list_shards(reference)
    elif not reference.is_pinned:
        raise UsageError(
            f"dataset {reference} is not pinned: name its 40-digit commit sha, {reference.repo_id}@<sha>, "
            "so that the run can be repeated (`chexvision dispatch` looks it up)"
        )


def _identity(
    shards: dict[str, list[Path]], name: str, manifest: Manifest | None, needed: Collection[int] | None
) -> str:
    """A digest of every shard's split, name and content.

    Not of the manifest's hashes: decoded images are found by the identity, and must never be those of a shard that
    was altered without updating the manifest. Of shards that are not needed here, nothing is decoded.
    """
    named = [(split, path) for split in sorted(shards) for path in shards[split]]
    numbers = {path: number for number, path in enumerate(path for paths in shards.values() for path in paths)}
    used = None if needed is None else {path for path, number in numbers.items() if number in needed}
    hashes = _shard_hashes([path for _, path in named], name, manifest, used)
    digest = hashlib.sha256()
    for (split, path), sha256 in zip(named, hashes, strict=True):
        digest.update(f"{split}/{path.name}:{sha256}\n".encode())
    return digest.hexdigest()


def _shard_hashes(
    paths: list[Path], where: str, manifest: Manifest | None, used: Collection[Path] | None
) -> list[str]:
    """SHA-256 of each shard, equal to the manifest's where there is one.

    Names and sizes are compared first. Reading a file for its hash takes a second per gigabyte or less on a
    fast disk, and only once: it is cached until the file changes.
    """
    if manifest is None:
        return Hashes().of_all(paths, "hashing shards")
    entries = {PurePosixPath(entry.path).name: entry for entry in manifest.shards}
    _refuse(where, "is missing", entries.keys() - {path.name for path in paths})
    _refuse(where, "is not in its manifest.json", {path.name for path in paths} - entries.keys())
    checked = paths if used is None else [path for path in paths if path in used]
    for path in checked:
        _check(where, entries[path.name], path, entries[path.name].sha256)
    for path, sha256 in zip(checked, Hashes().of_all(checked, "checking shards"), strict=True):
        _check(where, entries[path.name], path, sha256)
    return [entries[path.name].sha256 for path in paths]


def _refuse(where: str, what: str, names: Iterable[str]) -> None:
    if listed := sorted(names):
        raise ChexError(f"{where}: {listed[0]} {what} ({len(listed)} in all); {_ADVICE}")


def _check(where: str, entry: ShardEntry, path: Path, sha256: str) -> None:
    problem = difference(entry, path.stat().st_size, sha256)
    if problem is not None:
        raise ChexError(f"{where}: {problem}; {_ADVICE}")


def preprocessing_of(source: ShardSource, config: DataConfig, like: Preprocessing | None = None) -> Preprocessing:
    """The preprocessing from an original to the training image of these shards.

    Args:
        source: of the shards.
        config: of the recipe.
        like: the mean and deviation to normalize with are those of this one; None for the default's.

    Raises:
        UsageError: `config.image_size` is above the size of the shards' images, or that is above
            `LARGEST_SHARD_SIZE`.
        ChexError: a shard cannot be read.
    """
    paths = [path for paths in source.shards.values() for path in paths]
    height, width = _first_shape(next((path for path in paths if path.is_file()), paths[0]), source.name)
    config.check_fits(min(height, width), source.name)
    if height == width > LARGEST_SHARD_SIZE:
        raise UsageError(
            f"the images of {source.name} have {height} pixels per side, more than {LARGEST_SHARD_SIZE}; build "
            "smaller shards (chexvision shards build --size)"
        )
    # Images that are not square were not made by `shards build`: originals have no common first size.
    steps = Preprocessing(
        shard_size=height if height == width else None, image_size=config.image_size, clahe=config.clahe
    )
    return steps if like is None else steps.model_copy(update={"mean": like.mean, "std": like.std})


def check_image_size(data: Reference, config: DataConfig, needed: Collection[int] | None = None) -> None:
    """Refuse an `image_size` above the size of the images of `data`, before its shards are fetched.

    Of a dataset on the Hub the manifest is read or, where it has none, the first image alone.

    Args:
        data: a folder, or a dataset.
        config: of the recipe.
        needed: of `find_shards`.

    Raises:
        UsageError: it is above, or there are no shards.
        ChexError: the data cannot be had, or not be read.
    """
    if isinstance(data, Path) or cached_shards(data):
        preprocessing_of(find_shards(data, needed), config)
    else:
        config.check_fits(min(_shape_on_hub(data)), str(data))


def _shape_on_hub(reference: RepoRef) -> Shape:
    manifest = fetch_manifest(reference)
    if manifest is not None:
        return manifest.size, manifest.size
    with first_shard(reference) as file:
        return _first_shape(file, str(reference))


def _first_shape(shard: Path | IO[bytes], name: str) -> Shape:
    """Height and width of a shard's first image; of a remote shard little more than the image is read."""
    name = f"the first shard of {name}"
    with opened_shard(shard, name, buffer_size=1 << 16) as file:
        check_types(file.schema_arrow, name)
        batch = next(file.iter_batches(batch_size=1, columns=["image"]), None)
    if batch is None or not batch.num_rows:
        raise BadShard(f"{name} has no rows; build or fetch it again")
    image = encoded_images(batch.column(batch.schema.get_field_index("image")))
    try:
        height, width = decode_grey(image[0].as_py() or b"").shape
    except ValueError as error:
        raise ChexError(f"the first image of {name}: {error}") from None
    return height, width
