"""Rows to Parquet shards, hashed while they are written: shared by real and synthetic data sets."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from chexvision.errors import UsageError
from chexvision.labels import NIH, LabelCounts, LabelSpace
from chexvision.shards.manifest import ShardEntry, SplitCounts
from chexvision.shards.schema import (
    ALL_COLUMNS,
    SPLITS,
    USUAL_COLUMNS,
    Columns,
    Row,
    arrow_schema,
    shard_name,
    to_batch,
)

ROWS_PER_GROUP = 100  # a reader takes one row group at a time: about 4 MB of 320² images
_ROW_OVERHEAD = 512  # bytes that a row may take besides its image
_GROUP_OVERHEAD = 8 << 10  # page headers and the row group's part of the footer
_FILE_OVERHEAD = 32 << 10  # schema and the footer's fixed part
_COMPRESSED = [name for name, _ in ALL_COLUMNS.in_order()[1:]]
# Every option that affects the bytes is explicit, so that another release's defaults change nothing.
# Encoded images do not shrink further; a compressed page would only cost time on both sides.
_OPTIONS = {
    "version": "2.6",
    "data_page_version": "1.0",
    "data_page_size": 1 << 20,
    "compression": {
        **dict.fromkeys(_COMPRESSED, "zstd"),
        "image.bytes": "none",
        "image.path": "zstd",
    },
    "compression_level": dict.fromkeys([*_COMPRESSED, "image.path"], 3),
    "use_dictionary": ["labels", "uncertain", "unknown", "sex", "view"],
    "write_statistics": _COMPRESSED,
    "write_page_index": False,
    "store_schema": True,
}


class _HashedFile(io.BufferedWriter):
    """A binary file that is only appended to, and the SHA-256 of its content."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "w"))
        self.sha256 = hashlib.sha256()
        self.discard = False

    def write(self, data: Any, /) -> int:
        view = memoryview(data)
        if not self.discard:
            self.sha256.update(view)
            super().write(view)
        return view.nbytes

    def flush(self) -> None:
        if not self.discard:
            super().flush()


class _Shard:
    """One open Parquet file."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.last = ""
        self.rows = 0
        self.groups = 0
        self._sink = _HashedFile(path)
        self._parquet = pq.ParquetWriter(self._sink, schema, **_OPTIONS)
        self._schema = schema

    @property
    def expected_bytes(self) -> int:
        """An upper bound of the file's size if it were closed now."""
        return self._sink.tell() + self.groups * _GROUP_OVERHEAD + _FILE_OVERHEAD

    def write(self, rows: list[Row]) -> None:
        self._parquet.write_batch(to_batch(rows, self._schema), row_group_size=len(rows))
        self.rows += len(rows)
        self.last = rows[-1].filename
        self.groups += 1

    def close(self) -> tuple[str, int]:
        self._parquet.close()
        size = self._sink.tell()
        self._sink.close()
        return self._sink.sha256.hexdigest(), size

    def abandon(self) -> None:
        # Arrow writes a footer when it is closed, whatever happened before: it is discarded.
        self._sink.discard = True
        self._parquet.close()
        self._sink.close()


@dataclass(frozen=True, slots=True)
class Finished:
    """A closed shard, whose name is not the final one while more may follow.

    Args:
        shard: the file.
        last: name of the last image in it.
    """

    shard: ShardEntry
    last: str


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """How shards are written.

    Args:
        shard_bytes: the largest size of a shard.
        label_space: of the labels.
        columns: which the shards have besides the usual ones.
        on_finished: called with each shard as it is closed.
    """

    shard_bytes: int
    label_space: LabelSpace = NIH
    columns: Columns = USUAL_COLUMNS
    on_finished: Callable[[Finished], None] = lambda finished: None


class SplitWriter:
    """Writes the shards of one split below `folder`; `close` gives them their final names.

    Args:
        folder: the shard folder.
        split: one of `SPLITS`.
        options: of all splits.
        finished: its first shards, if `folder` contains them already; call `count` for the images in them.
    """

    def __init__(self, folder: Path, split: str, options: WriterOptions, finished: Sequence[Finished] = ()) -> None:
        self._folder = folder
        self._split = split
        self._options = options
        self._schema = arrow_schema(options.columns)
        self._pending: list[Row] = []
        self._pending_bytes = 0
        self._open: _Shard | None = None
        self._closed = [one.shard for one in finished]
        self._patients: set[int] = set()
        self._counts = LabelCounts(self._options.label_space)

    def add(self, row: Row) -> None:
        """Append a row; shards and row groups are closed when they are full."""
        size, limit = len(row.image) + _ROW_OVERHEAD, self._options.shard_bytes
        if size + _GROUP_OVERHEAD + _FILE_OVERHEAD > limit:
            raise UsageError(f"--shard-size {limit} bytes cannot contain one image of {len(row.image)} bytes")
        self._make_room(size)
        self._pending.append(row)
        self._pending_bytes += size
        self.count(row.patient_id, self._options.label_space.values(row.labels, row.uncertain, row.unknown))
        if len(self._pending) == ROWS_PER_GROUP:
            self._flush()

    def count(self, patient_id: int, values: Sequence[float]) -> None:
        """Count an image with these `LabelSpace.values`; only for images in shards that were finished before."""
        self._patients.add(patient_id)
        self._counts.add(values)

    def close(self) -> tuple[list[ShardEntry], SplitCounts]:
        """Finish the last shard and name all of them; the writer cannot be used again."""
        self._flush()
        self._finish_shard()
        entries = []
        for index, shard in enumerate(self._closed):
            name = shard_name(self._split, index, len(self._closed))
            (self._folder / shard.path).rename(self._folder / name)
            entries.append(replace(shard, path=name))
        images = sum(entry.rows for entry in entries)
        counts = self._counts
        return entries, SplitCounts(images, len(self._patients), counts.findings, counts.open_labels)

    def abandon(self) -> None:
        """Close the open file after a failure."""
        if self._open:
            self._open.abandon()

    def _make_room(self, size: int) -> None:
        expected = self._open.expected_bytes if self._open else _FILE_OVERHEAD
        if expected + self._pending_bytes + size + _GROUP_OVERHEAD > self._options.shard_bytes:
            self._flush()
            self._finish_shard()

    def _flush(self) -> None:
        if not self._pending:
            return
        if self._open is None:
            path = self._folder / unfinished_name(self._split, len(self._closed))
            path.parent.mkdir(exist_ok=True)
            self._open = _Shard(path, self._schema)
        self._open.write(self._pending)
        self._pending, self._pending_bytes = [], 0

    def _finish_shard(self) -> None:
        if self._open:
            sha256, size = self._open.close()
            name = unfinished_name(self._split, len(self._closed))
            shard = ShardEntry(name, self._split, sha256, size, self._open.rows)
            self._closed.append(shard)
            self._options.on_finished(Finished(shard, self._open.last))
            self._open = None


def unfinished_name(split: str, index: int) -> str:
    """The path of a shard in its folder while the number of shards is unknown."""
    return f"data/{split}-{index:05d}.parquet"


class ShardWriter:
    """Writes the shards of all splits; use as a context, then `close` inside it. See `SplitWriter`."""

    def __init__(
        self,
        folder: Path,
        options: WriterOptions,
        finished: Mapping[str, Sequence[Finished]] | None = None,
    ) -> None:
        before = finished or {}
        self._splits = {split: SplitWriter(folder, split, options, before.get(split, ())) for split in SPLITS}

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._splits.values():
            writer.abandon()

    def add(self, split: str, row: Row) -> None:
        """Append a row to one of `SPLITS`."""
        self._splits[split].add(row)

    def count(self, split: str, patient_id: int, values: Sequence[float]) -> None:
        """Count an image in a shard that was finished before; see `SplitWriter.count`."""
        self._splits[split].count(patient_id, values)

    def close(self) -> tuple[tuple[ShardEntry, ...], dict[str, SplitCounts]]:
        """Finish all shards; returns them with the counts of the splits that have images."""
        shards: list[ShardEntry] = []
        counts: dict[str, SplitCounts] = {}
        for split, writer in self._splits.items():
            entries, of_split = writer.close()
            shards += entries
            if of_split.images:
                counts[split] = of_split
        return tuple(shards), counts
