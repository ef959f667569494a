"""Single images of Parquet files as files of `fsspec`, through which `datasets` opens what an image column names.

So a data set refers to images that stay in their shards, and everything that opens or copies images works: `map`,
workers of a `DataLoader`, `push_to_hub`. The entry point in ``pyproject.toml`` makes the protocol known to every
process.
"""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem, register_implementation

from chexvision.shards.columns import encoded_images

PROTOCOL = "shard-row"
_GROUPS = 4  # kept in memory, each about 10 MB: rows that are read in order are decoded once


def row_url(shard: Path, row: int) -> str:
    """What names the image in a row of a shard, counted from 0."""
    return f"{PROTOCOL}://{quote(str(shard.absolute()), safe='')}/{row}"  # fsspec expands [, ? and * in paths


class ShardRows(AbstractFileSystem):  # type: ignore[misc]
    """The files that `row_url` names."""

    protocol = PROTOCOL

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """The size of an image's file."""
        return {"name": path, "size": len(_bytes_of(self._strip_protocol(path))), "type": "file"}

    def _open(self, path: str, mode: str = "rb", *_: Any, **__: Any) -> io.BytesIO:
        if mode != "rb":
            raise PermissionError(f"{path} is an image in a shard, which is only read")
        return io.BytesIO(_bytes_of(path))


register_implementation(PROTOCOL, ShardRows, clobber=True)


def _bytes_of(path: str) -> bytes:
    quoted, _, number = path.rpartition("/")
    shard = unquote(quoted)
    try:
        row, changed = int(number), os.stat(shard).st_mtime_ns  # noqa: PTH116 - called for each image
        starts = _starts(shard, changed)
        group = bisect_right(starts, row) - 1
        data: bytes = _group(shard, changed, group)[row - starts[group]].as_py()
        return data
    except (pa.ArrowException, ValueError, IndexError, TypeError) as error:
        raise OSError(f"row {number} of {shard} cannot be read: {error}") from None


@lru_cache(maxsize=1024)
def _starts(shard: str, changed: int) -> list[int]:
    """The first row of each row group, and the number of rows. A shard that was `changed` since is read again."""
    with pq.ParquetFile(shard, memory_map=True) as file:
        known = file.metadata
        return [0, *accumulate(known.row_group(group).num_rows for group in range(known.num_row_groups))]


@lru_cache(maxsize=_GROUPS)
def _group(shard: str, changed: int, group: int) -> pa.Array:
    """The encoded images of a row group."""
    with pq.ParquetFile(shard, memory_map=True) as file:
        table = file.read_row_group(group, columns=["image"], use_threads=False)
    return encoded_images(table.column("image").combine_chunks())
