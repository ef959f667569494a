"""Which images each shard contains, from names alone: a shard can be made anywhere, again, and without the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from chexvision.errors import UsageError
from chexvision.images.radiograph import Encoding, most_bytes
from chexvision.shards.schema import SPLITS, shard_name

ROWS_PER_GROUP = 100  # a reader takes one row group at a time: about 4 MB of 320² images
_ROW_OVERHEAD = 512  # bytes that a row may take besides its image and its name
_GROUP_OVERHEAD = 8 << 10  # page headers and the row group's part of the footer
_FILE_OVERHEAD = 32 << 10  # schema and the footer's fixed part

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PlannedShard(Generic[T]):
    """A shard that is to be made.

    Args:
        path: relative to the folder of shards.
        split: one of `SPLITS`.
        images: what is in it, by name. Bad ones will leave it with fewer rows.
    """

    path: str
    split: str
    images: tuple[T, ...]


@dataclass(frozen=True, slots=True)
class ShardSize:
    """What the number of rows of a shard depends on.

    Args:
        limit: the most bytes that a shard takes.
        side: of an image in pixels.
        encoding: of an image.
    """

    limit: int
    side: int
    encoding: Encoding

    def rows(self, longest_name: int) -> int:
        """The rows that fit into a shard whatever the images show.

        Args:
            longest_name: bytes; a row holds its name twice.

        Raises:
            UsageError: none fits.
        """
        image = most_bytes(self.side, self.encoding)
        per_row = image + _ROW_OVERHEAD + 2 * longest_name + -(-_GROUP_OVERHEAD // ROWS_PER_GROUP)
        rows = (self.limit - _FILE_OVERHEAD - _GROUP_OVERHEAD) // per_row
        if rows < 1:
            raise UsageError(
                f"--shard-size {self.limit} bytes cannot contain one image of {image:,} bytes, which one of "
                f"{self.side}² pixels may have; use {_FILE_OVERHEAD + _GROUP_OVERHEAD + per_row:,} or more"
            )
        return rows


def plan_shards(
    images: Iterable[tuple[str, T]], name: Callable[[T], str], size: ShardSize
) -> tuple[PlannedShard[T], ...]:
    """Divide images into shards: of each split those with the first names, then the next ones.

    Args:
        images: with their split; in any order.
        name: of an image; no two of a split share one.
        size: of the shards.

    Returns:
        The shards in the order of `SPLITS`.

    Raises:
        UsageError: not even one image fits into a shard.
    """
    by_split: dict[str, list[T]] = {split: [] for split in SPLITS}
    for split, image in images:
        by_split[split].append(image)
    longest = max((len(name(image).encode()) for split in SPLITS for image in by_split[split]), default=0)
    rows = size.rows(longest)
    planned = []
    for split, members in by_split.items():
        members.sort(key=name)
        count = -(-len(members) // rows)
        for index in range(count):
            part = tuple(members[index * rows : (index + 1) * rows])
            planned.append(PlannedShard(shard_name(split, index, count), split, part))
    return tuple(planned)
