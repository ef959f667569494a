"""The columns of a shard, which may be untrusted, read and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import types

from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import regular_size
from chexvision.labels import LabelSpace
from chexvision.shards.manifest import Manifest, label_space_of, read_manifest
from chexvision.shards.schema import ALL_COLUMNS, LABEL_COLUMNS, NEEDED_COLUMNS, patient_of

_COLUMNS = ALL_COLUMNS.in_order()
_NEVER_NULL = ("filename", "labels")


class BadShard(ChexError):
    """A shard is not valid; the message begins with its name."""


def read_columns(source: Path | IO[bytes], columns: Sequence[str], name: str) -> tuple[pa.Schema, pa.Table]:
    """The schema of a shard, and those of the named columns that it has.

    Whatever the shard's own types, texts come as strings and `patient_id` as int64. File names and labels are
    never null.

    Args:
        source: a file, or an object that reads one by ranges. Its own errors, such as a network's, propagate.
        columns: which.
        name: of the shard, for messages.

    Raises:
        BadShard: it is not a Parquet file, is damaged, has no rows, or lacks a needed column or has something else
            in one.
    """
    with opened_shard(source, name) as file:
        schema = file.schema_arrow
        check_types(schema, name)
        if not file.metadata.num_rows:
            raise BadShard(f"{name} has no rows; build or fetch it again")
        table = file.read(columns=[column for column in columns if column in schema.names])
        kinds = {column: kind for column, kind in _COLUMNS if kind == pa.string() or column == "patient_id"}
        table = table.cast(pa.schema([(field.name, kinds.get(field.name, field.type)) for field in table.schema]))
        table.validate(full=True)  # texts are UTF-8
    for column in _NEVER_NULL:
        if column in table.column_names and (nulls := table.column(column).null_count):
            raise BadShard(f"{name} has {nulls:,} rows without a value in column {column!r}; build it again")
    return schema, table


def columns_of_file(path: Path, columns: Sequence[str]) -> pa.Table:
    """Those of the named columns that a file of this machine has; see `read_columns`."""
    return read_columns(path, columns, str(path))[1]


ReadColumns = Callable[[Path, Sequence[str]], pa.Table]  # `columns_of_file`, or the same over a network


def label_texts(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """The texts of each row's labels as arguments of `LabelSpace.values`."""
    columns = [table.column(name).to_pylist() if name in table.column_names else None for name in LABEL_COLUMNS]
    return zip(*(column or repeat(None, table.num_rows) for column in columns), strict=True)


def patients_of(table: pa.Table, name: str) -> NDArray[np.int64]:
    """The patient of each row: int64[N], from the file name where the shard has no column `patient_id`.

    Args:
        table: with the column, or `filename`.
        name: of the shard, for messages.

    Raises:
        BadShard: a patient is unknown.
    """
    if "patient_id" in table.column_names:
        column = table.column("patient_id").combine_chunks()
        if column.null_count:
            raise BadShard(f"{name} has images without a patient_id; whether splits share a patient is unknown")
        # Arrow's own to_numpy would import pandas, which takes longer than reading the shard.
        return np.from_dlpack(column).astype(np.int64)
    try:
        return np.array([patient_of(filename) for filename in table.column("filename").to_pylist()], np.int64)
    except ValueError as error:
        raise BadShard(f"{name} has no column 'patient_id', and {error}; add the column") from None


def encoded_images(column: pa.Array) -> pa.Array:
    """The bytes of each image of a column `image`, which may be a struct of bytes and path."""
    return column.field("bytes") if isinstance(column, pa.StructArray) else column


@contextmanager
def opened_shard(source: Path | IO[bytes], name: str, buffer_size: int = 0) -> Iterator[pq.ParquetFile]:
    """A Parquet file; Arrow's errors about its content in the block are raised as `BadShard`.

    Args:
        source: see `read_columns`, as is `name`.
        name: of the shard, for messages.
        buffer_size: bytes to read at a time; 0 to read whole columns ahead.
    """
    try:
        if isinstance(source, Path):
            regular_size(source)
        # Not read_table: importing what it needs takes longer than reading a shard.
        with pq.ParquetFile(source, pre_buffer=not buffer_size, buffer_size=buffer_size) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and not isinstance(source, Path):
            raise  # the network's
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BadShard(f"{name} is not a readable Parquet file: {text}; build or fetch it again") from None


def check_types(schema: pa.Schema, shard: str) -> None:
    """Raise `BadShard` where a column that every shard needs is missing, or a known one has another type."""
    for name in NEEDED_COLUMNS:
        if name not in schema.names:
            raise BadShard(f"{shard} has no column {name!r}; shards need {', '.join(NEEDED_COLUMNS)}")
    for name, kind in _COLUMNS:
        if schema.names.count(name) > 1:
            raise BadShard(f"{shard} has several columns {name!r}")
        if name not in schema.names:
            continue
        found = schema.field(name).type
        is_valid, expected = _EXPECTED.get(name, _TEXT if kind == pa.string() else _NUMBER)
        if not is_valid(found):
            raise BadShard(f"{shard} has {found} in column {name!r}, expected {expected}")


def _is_text(kind: pa.DataType) -> bool:
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind))


def _is_image(kind: pa.DataType) -> bool:
    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        if index < 0:
            return False
        kind = kind.field(index).type
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


_TEXT = (_is_text, "text")
_NUMBER = (_is_number, "a number")
_EXPECTED: dict[str, tuple[Callable[[pa.DataType], bool], str]] = {
    "image": (_is_image, "bytes of PNG or JPEG, or a struct with them"),
    "patient_id": (types.is_integer, "an integer"),
}


@dataclass(frozen=True, slots=True)
class ShardPlace:
    """A set of shards in a folder or on the Hub, complete or not.

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

    @property
    def label_space(self) -> LabelSpace:
        """The label set."""
        return label_space_of(self.manifest)


def folder_place(folder: Path) -> ShardPlace:
    """The shards in a folder.

    Raises:
        UsageError: the folder does not exist.
        ChexError: the manifest cannot be read.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder")
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.rglob("*.parquet"))}

    def read(path: str, columns: Sequence[str]) -> tuple[pa.Schema, pa.Table]:
        return read_columns(folder / path, columns, f"{path} of {folder}")

    return ShardPlace(str(folder), read_manifest(folder), sizes, read, 1)
