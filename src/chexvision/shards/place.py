"""Shards wherever they lie, as much of them as can be read without their images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from chexvision.errors import UsageError
from chexvision.shards.manifest import Manifest, read_manifest


@dataclass(frozen=True, slots=True)
class ShardPlace:
    """A set of shards in a folder or on the Hub, whole or not.

    Args:
        name: the folder, or ``USER/NAME@sha``.
        manifest: None where it has none.
        sizes: bytes of each Parquet file, by its path.
        read: the schema of the shard at a path, and those of the named columns that it has.
        readers: how many shards to read at once.
    """

    name: str
    manifest: Manifest | None
    sizes: dict[str, int]
    read: Callable[[str, Sequence[str]], tuple[pa.Schema, pa.Table]]
    readers: int


def folder_place(folder: Path) -> ShardPlace:
    """The shards in a folder.

    Raises:
        UsageError: there is no such folder.
        ChexError: the manifest cannot be read.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder")
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.rglob("*.parquet"))}
    return ShardPlace(
        str(folder), read_manifest(folder), sizes, lambda path, columns: read_columns(folder / path, columns), 1
    )


def read_columns(source: Path | IO[bytes], columns: Sequence[str]) -> tuple[pa.Schema, pa.Table]:
    """The schema of a Parquet file, and those of the columns that it has.

    Raises:
        pyarrow.ArrowInvalid: it is no Parquet file.
    """
    with pq.ParquetFile(source, pre_buffer=True) as file:
        schema = file.schema_arrow
        return schema, file.read(columns=[name for name in columns if name in schema.names])
