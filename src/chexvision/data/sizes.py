"""The size of the images of shards, and whether a recipe's `image_size` fits it."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from chexvision.config import DataConfig
from chexvision.data.source import ShardSource, find_shards
from chexvision.errors import ChexError, UsageError
from chexvision.hub.reference import Reference, RepoRef
from chexvision.preprocessing import LARGEST_SHARD_SIZE, Preprocessing
from chexvision.radiograph import decode_grey
from chexvision.shards.columns import BadShard, check_types, encoded_images, opened_shard
from chexvision.shards.download import cached_shards
from chexvision.shards.remote import fetch_manifest, first_shard

Shape = tuple[int, int]  # height and width in pixels


def preprocessing_of(source: ShardSource, config: DataConfig) -> Preprocessing:
    """The preprocessing from an original to the training image of these shards.

    Raises:
        UsageError: `config.image_size` is above the size of the shards' images, or that is above
            `LARGEST_SHARD_SIZE`.
        ChexError: a shard cannot be read.
    """
    height, width = _first_shape(next(path for paths in source.shards.values() for path in paths), source.name)
    config.check_fits(min(height, width), source.name)
    if height == width > LARGEST_SHARD_SIZE:
        raise UsageError(
            f"the images of {source.name} have {height} pixels per side, more than {LARGEST_SHARD_SIZE}; build "
            "smaller shards (chexvision shards build --size)"
        )
    # Images that are not square were not made by `shards build`: originals have no common first size.
    return Preprocessing(
        shard_size=height if height == width else None, image_size=config.image_size, clahe=config.clahe
    )


def check_image_size(data: Reference, config: DataConfig) -> None:
    """Refuse an `image_size` above the size of the images of `data`, before its shards are fetched.

    Of a dataset on the Hub the manifest is read or, where it has none, the first image alone.

    Raises:
        UsageError: it is above, or there are no shards.
        ChexError: the data cannot be had, or not be read.
    """
    if isinstance(data, Path) or cached_shards(data):
        preprocessing_of(find_shards(data), config)
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
