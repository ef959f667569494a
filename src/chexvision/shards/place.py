"""Shards wherever they lie, as much of them as can be read without their images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from chexvision.errors import UsageError
from chexvision.shards.columns import read_columns
from chexvision.shards.manifest import Manifest, read_manifest


@dataclass(frozen=True, slots=True)
class ShardPlace:
    """A set of shards in a folder or on the Hub, whole or not.

    Args:
        name: the folder, or ``USER/NAME@sha``.
        manifest: None where it has none.
        sizes: bytes of each Parquet file, by its path.
        read: the schema of the shard at a path, and those of the named columns that it has; see `read_columns`.
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
        raise UsageError(f"{folder} is not a folder")
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.rglob("*.parquet"))}

    def read(path: str, columns: Sequence[str]) -> tuple[pa.Schema, pa.Table]:
        return read_columns(folder / path, columns, f"{path} of {folder}")

    return ShardPlace(str(folder), read_manifest(folder), sizes, read, 1)
