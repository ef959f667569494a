"""Rows to Parquet shards, hashed while they are written: shared by real and synthetic data sets."""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from chexvision.errors import ChexError
from chexvision.shards.manifest import BadImage, ShardEntry
from chexvision.shards.planned.outputs import Output
from chexvision.shards.planned.plan import ROWS_PER_GROUP, PlannedShard
from chexvision.shards.schema import ALL_COLUMNS, SPLITS, Columns, Row, arrow_schema, to_batch

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

T = TypeVar("T")


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


class _OpenShard(Generic[T]):
    """One Parquet file that is written, under a name that no other process uses."""

    def __init__(self, planned: PlannedShard[T], folder: Path, schema: pa.Schema) -> None:
        self.planned = planned
        self.file = folder / f".{uuid.uuid4().hex}.partial"
        self.seen = 0
        self.bad: list[BadImage] = []
        self._rows = 0
        self._pending: list[Row] = []
        self._schema = schema
        self._sink = _HashedFile(self.file)
        self._parquet = pq.ParquetWriter(self._sink, schema, **_OPTIONS)

    def add(self, outcome: Row | BadImage) -> None:
        self.seen += 1
        if isinstance(outcome, BadImage):
            self.bad.append(outcome)
            return
        self._pending.append(outcome)
        if len(self._pending) == ROWS_PER_GROUP:
            self._flush()

    def close(self) -> ShardEntry:
        self._flush()
        self._parquet.close()
        size = self._sink.tell()
        self._sink.close()
        return ShardEntry(self.planned.path, self.planned.split, self._sink.sha256.hexdigest(), size, self._rows)

    def abandon(self) -> None:
        # Arrow writes a footer when it is closed, whatever happened before: it is discarded.
        self._sink.discard = True
        self._parquet.close()
        self._sink.close()
        self.file.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._pending:
            self._parquet.write_batch(to_batch(self._pending, self._schema), row_group_size=len(self._pending))
            self._rows += len(self._pending)
            self._pending = []


class ShardWriter(Generic[T]):
    """Writes planned shards; use as a context.

    Args:
        output: where they appear, each when it is complete.
        shards: those to write; the images of a split come in the order of their shards.
        columns: which the shards have besides the usual ones.
    """

    def __init__(self, output: Output, shards: Iterable[PlannedShard[T]], columns: Columns) -> None:
        self._output = output
        self._schema = arrow_schema(columns)
        self._planned: dict[str, list[PlannedShard[T]]] = {split: [] for split in SPLITS}
        for shard in shards:
            self._planned[shard.split].append(shard)
        for waiting in self._planned.values():
            waiting.reverse()
        self._open: dict[str, _OpenShard[T]] = {}

    def __enter__(self) -> ShardWriter[T]:
        return self

    def __exit__(self, *_: object) -> None:
        for shard in self._open.values():
            shard.abandon()

    def add(self, split: str, outcome: Row | BadImage) -> tuple[ShardEntry, tuple[BadImage, ...]] | None:
        """Take the next image of a split; returns its shard and the bad images in it if this was the last.

        Raises:
            ChexError: all images of the shard are bad.
        """
        if split not in self._open:
            planned = self._planned[split].pop()
            self._open[split] = _OpenShard(planned, self._output.scratch, self._schema)
        shard = self._open[split]
        shard.add(outcome)
        if shard.seen < len(shard.planned.images):
            return None
        if len(shard.bad) == shard.seen:
            first = shard.bad[0]
            raise ChexError(
                f"all {shard.seen:,} images of {shard.planned.path} are bad, first {first.name}: {first.reason}; fix "
                "them, remove these files, or choose a larger --shard-size"
            )
        entry = shard.close()
        self._output.put(shard.file, entry.path)
        del self._open[split]
        return entry, tuple(shard.bad)
