"""Rows to Parquet shards, hashed while they are written: shared by real and synthetic sets."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from chexvision.errors import UsageError
from chexvision.labels import FINDINGS, NO_FINDING, parse_labels
from chexvision.shards.manifest import ShardEntry, SplitCounts
from chexvision.shards.schema import COLUMNS, SPLITS, Row, arrow_schema, shard_name, to_batch

ROWS_PER_GROUP = 100  # a reader takes a whole row group at a time: about 4 MB of 320² images
_ROW_OVERHEAD = 512  # bytes that a row may take beside its image
_GROUP_OVERHEAD = 8 << 10  # page headers and the row group's part of the footer
_FILE_OVERHEAD = 32 << 10  # schema and the footer's fixed part
# Every option that shapes the bytes is written down, so that another release's defaults change nothing.
# Encoded images do not shrink further; a compressed page would only cost time on both sides.
_OPTIONS = {
    "version": "2.6",
    "data_page_version": "1.0",
    "data_page_size": 1 << 20,
    "compression": {
        **{name: "zstd" for name, _ in COLUMNS[1:]},
        "image.bytes": "none",
        "image.path": "zstd",
    },
    "compression_level": {**{name: 3 for name, _ in COLUMNS[1:]}, "image.path": 3},
    "use_dictionary": ["labels", "sex", "view"],
    "write_statistics": [name for name, _ in COLUMNS[1:]],
    "write_page_index": False,
    "store_schema": True,
}


class _HashedFile:
    """A binary file that only grows and knows the SHA-256 of what it holds."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = path.open("wb")
        self._sha256 = hashlib.sha256()
        self.bytes = 0
        self.closed = False
        self.discard = False

    def write(self, data: bytes | memoryview | pa.Buffer) -> int:
        view = memoryview(data)
        if not self.discard:
            self._sha256.update(view)
            self._file.write(view)
            self.bytes += view.nbytes
        return view.nbytes

    def flush(self) -> None:
        if not self.discard:
            self._file.flush()

    def tell(self) -> int:
        return self.bytes

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._file.close()

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()


class _Shard:
    """One open Parquet file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = ""
        self.rows = 0
        self.groups = 0
        self._sink = _HashedFile(path)
        self._parquet = pq.ParquetWriter(self._sink, arrow_schema(), **_OPTIONS)

    @property
    def expected_bytes(self) -> int:
        """At most what the file would take if it were closed now."""
        return self._sink.bytes + self.groups * _GROUP_OVERHEAD + _FILE_OVERHEAD

    def write(self, rows: list[Row]) -> None:
        self._parquet.write_batch(to_batch(rows), row_group_size=len(rows))
        self.rows += len(rows)
        self.last = rows[-1].filename
        self.groups += 1

    def close(self) -> tuple[str, int]:
        self._parquet.close()
        self._sink.close()
        return self._sink.sha256, self._sink.bytes

    def abandon(self) -> None:
        # Arrow writes a footer when it is closed, whatever happened before: into nothing.
        self._sink.discard = True
        self._parquet.close()
        self._sink.close()


@dataclass(frozen=True, slots=True)
class Finished:
    """A closed shard, whose name is not the final one while more may come.

    Args:
        shard: the file.
        last: name of the last image in it.
    """

    shard: ShardEntry
    last: str


class SplitWriter:
    """Writes the shards of one split below `folder`; `close` gives them their final names.

    Args:
        folder: the shard folder.
        split: one of `SPLITS`.
        shard_bytes: the most that a shard takes.
        finished: its first shards, where they lie in `folder` already; tell `count` of the images in them.
        on_finished: called with each further shard as it is closed.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        shard_bytes: int,
        finished: Sequence[Finished] = (),
        on_finished: Callable[[Finished], None] = lambda finished: None,
    ) -> None:
        self._folder = folder
        self._split = split
        self._limit = shard_bytes
        self._on_finished = on_finished
        self._pending: list[Row] = []
        self._pending_bytes = 0
        self._open: _Shard | None = None
        self._closed = [one.shard for one in finished]
        self._patients: set[int] = set()
        self._findings: Counter[str] = Counter()

    def add(self, row: Row) -> None:
        """Append a row; shards and row groups are closed when they are full."""
        size = len(row.image) + _ROW_OVERHEAD
        if size + _GROUP_OVERHEAD + _FILE_OVERHEAD > self._limit:
            raise UsageError(f"--shard-size {self._limit} bytes cannot hold one image of {len(row.image)} bytes")
        self._make_room(size)
        self._pending.append(row)
        self._pending_bytes += size
        self.count(row.patient_id, row.labels)
        if len(self._pending) == ROWS_PER_GROUP:
            self._flush()

    def count(self, patient_id: int, labels: str) -> None:
        """Count an image in; needed only of those in shards that were there before."""
        self._patients.add(patient_id)
        self._findings.update(parse_labels(labels) or (NO_FINDING,))

    def close(self) -> tuple[list[ShardEntry], SplitCounts]:
        """Finish the last shard and name all of them; afterwards the writer is spent."""
        self._flush()
        self._finish_shard()
        entries = []
        for index, shard in enumerate(self._closed):
            name = shard_name(self._split, index, len(self._closed))
            (self._folder / shard.path).rename(self._folder / name)
            entries.append(replace(shard, path=name))
        images = sum(entry.rows for entry in entries)
        findings = {name: self._findings[name] for name in (*FINDINGS, NO_FINDING)}
        return entries, SplitCounts(images, len(self._patients), findings)

    def abandon(self) -> None:
        """Let go of the open file after a failure."""
        if self._open:
            self._open.abandon()

    def _make_room(self, size: int) -> None:
        expected = self._open.expected_bytes if self._open else _FILE_OVERHEAD
        if expected + self._pending_bytes + size + _GROUP_OVERHEAD > self._limit:
            self._flush()
            self._finish_shard()

    def _flush(self) -> None:
        if not self._pending:
            return
        if self._open is None:
            path = self._folder / unfinished_name(self._split, len(self._closed))
            path.parent.mkdir(exist_ok=True)
            self._open = _Shard(path)
        self._open.write(self._pending)
        self._pending, self._pending_bytes = [], 0

    def _finish_shard(self) -> None:
        if self._open:
            sha256, size = self._open.close()
            name = unfinished_name(self._split, len(self._closed))
            shard = ShardEntry(name, self._split, sha256, size, self._open.rows)
            self._closed.append(shard)
            self._on_finished(Finished(shard, self._open.last))
            self._open = None


def unfinished_name(split: str, index: int) -> str:
    """What a shard is called, in its folder, until it is known how many there are."""
    return f"data/{split}-{index:05d}.parquet"


class ShardWriter:
    """Writes the shards of all splits; use as a context, then `close` inside it. See `SplitWriter`."""

    def __init__(
        self,
        folder: Path,
        shard_bytes: int,
        finished: Mapping[str, Sequence[Finished]] | None = None,
        on_finished: Callable[[Finished], None] = lambda finished: None,
    ) -> None:
        there = finished or {}
        self._splits = {
            split: SplitWriter(folder, split, shard_bytes, there.get(split, ()), on_finished) for split in SPLITS
        }

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._splits.values():
            writer.abandon()

    def add(self, split: str, row: Row) -> None:
        """Append a row to one of `SPLITS`."""
        self._splits[split].add(row)

    def count(self, split: str, patient_id: int, labels: str) -> None:
        """Count an image in that lies in a shard that was there before."""
        self._splits[split].count(patient_id, labels)

    def close(self) -> tuple[tuple[ShardEntry, ...], dict[str, SplitCounts]]:
        """Finish all shards; returns them with the counts of the splits that hold any image."""
        shards: list[ShardEntry] = []
        counts: dict[str, SplitCounts] = {}
        for split, writer in self._splits.items():
            entries, held = writer.close()
            shards += entries
            if held.images:
                counts[split] = held
        return tuple(shards), counts
