"""How large the images of shards are, and whether a recipe's `image_size` fits them."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import pyarrow as pa

from chexvision.config import DataConfig
from chexvision.data.source import ShardSource, find_shards
from chexvision.errors import ChexError
from chexvision.hub.reference import Reference, RepoRef
from chexvision.preprocessing import Preprocessing
from chexvision.radiograph import decode_grey
from chexvision.shards.columns import opened_shard
from chexvision.shards.download import cached_shards
from chexvision.shards.remote import fetch_manifest, first_shard, hub_failure

Shape = tuple[int, int]  # height and width in pixels


def preprocessing_of(source: ShardSource, config: DataConfig) -> Preprocessing:
    """What turns an original into the image that training on these shards sees.

    Raises:
        UsageError: `config.image_size` is above the size of the shards' images.
        ChexError: a shard cannot be read.
    """
    height, width = _first_shape(next(path for paths in source.shards.values() for path in paths), source.name)
    config.check_fits(min(height, width), source.name)
    # Images that are not square were not made by `shards build`: originals have no common first size then.
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
    try:
        with first_shard(reference) as file:
            return _first_shape(file, str(reference))
    except ChexError:
        raise
    except Exception as error:
        raise hub_failure(reference, error) from error


def _first_shape(shard: Path | IO[bytes], name: str) -> Shape:
    """Height and width of a shard's first image; of a remote shard one row group at most is read."""
    with opened_shard(shard, f"the first shard of {name}") as file:
        if "image" not in file.schema_arrow.names:
            raise ChexError(f"the first shard of {name} has no column 'image'")
        batch = next(file.iter_batches(batch_size=1, row_groups=[0], columns=["image"]), None)
    try:
        column = batch.column(0) if batch is not None else pa.array([], pa.binary())
        image = column.field("bytes") if isinstance(column, pa.StructArray) else column
        height, width = decode_grey(image[0].as_py() or b"").shape
    except (TypeError, KeyError, IndexError, ValueError) as error:
        raise ChexError(f"the first image of {name} cannot be read ({error}); build its shards again") from None
    return height, width
