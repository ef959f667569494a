"""Planned shards to files: images are read, decoded, averaged, encoded, and written in the order of their names."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import pyarrow as pa

from chexvision import __version__
from chexvision.files.stamps import without_time
from chexvision.images.radiograph import Encoding, encode_grey, most_bytes, resize_area
from chexvision.images.reading import read_radiograph
from chexvision.images.sources import Found, read_images
from chexvision.labels import LabelSpace
from chexvision.nih.metadata import Entry
from chexvision.parallel import in_rank_order, map_in_order
from chexvision.shards.manifest import FORMAT, BadImage, Source
from chexvision.shards.planned.ledger import CANNOT_READ, Built, write_record
from chexvision.shards.planned.outputs import Output
from chexvision.shards.planned.plan import PlannedShard
from chexvision.shards.planned.writer import ShardWriter
from chexvision.shards.schema import Columns, Row

_FETCHING = 8  # images that are fetched at once besides those that are encoded


@dataclass(frozen=True, slots=True)
class Item:
    """An image that has labels and a split."""

    found: Found
    entry: Entry
    split: str
    labels: tuple[float, ...]  # `LabelSpace.values`

    @property
    def name(self) -> str:
        """In the shard."""
        return self.found.name

    def without_time(self) -> Item:
        """The same where the time of a local file does not matter."""
        if not isinstance(self.found.container, Path):
            return self
        return replace(self, found=replace(self.found, stamp=without_time(self.found.stamp)))


@dataclass(frozen=True, slots=True)
class ShardRecipe:
    """How images become rows: the same for all shards of a set."""

    size: int  # side in pixels
    encoding: Encoding
    any_view: bool  # laterals too
    space: LabelSpace
    columns: Columns
    source: Source  # of the labels; of sets that are one file, or at a commit, of the images too

    def key(self, shard: PlannedShard[Item]) -> str:
        """SHA-256 of everything that determines the bytes of a shard; of the pixels the stamps of the listing."""
        digest = hashlib.sha256(repr([FORMAT, __version__, pa.__version__, cv2.__version__, self]).encode())
        digest.update(repr((shard.path, shard.split)).encode())
        for item in shard.images:
            digest.update(repr((item.name, item.found.stamp, item.entry, item.labels)).encode())
        return digest.hexdigest()

    def row(self, item: Item, image: bytes) -> Row:
        """An encoded image with its metadata."""
        entry = item.entry
        return Row(
            image=image,
            filename=item.name,
            labels="|".join(self.space.named(item.labels)),
            uncertain=entry.uncertain,
            unknown=entry.unknown,
            patient_id=entry.patient_id,
            age=entry.age,
            sex=entry.sex,
            view=entry.view,
            study_id=entry.study_id,
            follow_up=entry.follow_up,
            original_width=entry.original_width,
            original_height=entry.original_height,
        )

    def encode(self, data: bytes) -> bytes:
        """A file's bytes as they are stored.

        Raises:
            ValueError: they are not an image that can be used.
        """
        pixels = read_radiograph(data, any_view=self.any_view).pixels
        image = encode_grey(resize_area(pixels, self.size), self.encoding)
        if len(image) > most_bytes(self.size, self.encoding):  # a JPEG of noise
            raise ValueError(f"its {self.encoding} has {len(image):,} bytes: noise, not a radiograph")
        return image


@dataclass(frozen=True, slots=True)
class Work:
    """Shards to make.

    Args:
        shards: by split in order; only those that are not there.
        recipe: of all of them.
        output: where they appear.
        workers: threads, or tasks.
        seen: called with a number of images that are done, and which of them are bad; raises to end the work.
    """

    shards: tuple[PlannedShard[Item], ...]
    recipe: ShardRecipe
    output: Output
    workers: int
    seen: Callable[[int, Sequence[BadImage]], None] = lambda images, bad: None


def make_shards(work: Work) -> Iterator[Built]:
    """Make shards on the cores of this machine; each is in the output, and recorded, when it is yielded.

    Each archive is read once.
    """
    keys = {shard.path: work.recipe.key(shard) for shard in work.shards}
    items = [item for shard in work.shards for item in shard.images]
    with ShardWriter(work.output, work.shards, work.recipe.columns) as writer:
        for item, outcome in _encoded(items, work):
            work.seen(1, [outcome] if isinstance(outcome, BadImage) else [])
            finished = writer.add(item.split, outcome)
            if finished is not None:
                shard, bad = finished
                built = Built(keys[shard.path], shard, bad)
                write_record(work.output, built)
                yield built


def _encoded(items: list[Item], work: Work) -> Iterator[tuple[Item, Row | BadImage]]:
    """Decode, average and encode on all workers; results are ordered by file name."""
    recipe = work.recipe
    by_name = sorted(items, key=lambda item: item.name)
    ranks = {item.found: rank for rank, item in enumerate(by_name)}
    read = read_images([item.found for item in by_name])
    sources = ((rank, by_name[rank], load) for found, load in read for rank in (ranks[found],))
    # Who waits for a network needs no core.
    local = all(isinstance(item.found.container, Path) for item in items)
    threads = work.workers if local else work.workers + _FETCHING
    with tempfile.TemporaryFile(dir=work.output.scratch) as spill:
        results = map_in_order(partial(_encode, recipe), sources, threads)
        for (item, problem), data in in_rank_order(results, spill):
            yield item, recipe.row(item, data) if problem is None else BadImage(item.name, problem)


def _encode(
    recipe: ShardRecipe, source: tuple[int, Item, Callable[[], bytes]]
) -> tuple[int, tuple[Item, str | None], bytes]:
    rank, item, load = source
    try:
        return rank, (item, None), recipe.encode(load())
    except ValueError as error:
        return rank, (item, str(error)), b""
    except OSError as error:
        return rank, (item, f"{CANNOT_READ}{error.strerror or error}"), b""
