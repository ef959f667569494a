"""Training images divided among the machines of a run, where one cannot hold all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chexvision.data.rows import Rows


@dataclass(frozen=True, slots=True)
class NodeShare:
    """Which images of a split are on this machine, and which of them this process computes.

    Args:
        node_of: int32[N], the machine of each image.
        held: int64[M], the positions of those on this one, ascending.
        node: this machine.
        process: the number of this process among those of the machine.
        processes: how many these are.
    """

    node_of: NDArray[np.int32]
    held: NDArray[np.int64]
    node: int
    process: int
    processes: int

    def own(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where in a batch of `images`, int64[B], those are that this process computes."""
        here = np.flatnonzero(self.node_of[images] == self.node)
        return np.array_split(here, self.processes)[self.process]

    def place(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places of `images` among those held here; all of them are."""
        return np.searchsorted(self.held, images)


@dataclass(frozen=True, slots=True)
class Nodes:
    """The machines of a run.

    Args:
        of: for each process by rank, the number of its machine, from 0 in the order of ranks.
        rank: this process.
    """

    of: tuple[int, ...]
    rank: int

    @property
    def count(self) -> int:
        """How many machines there are."""
        return len(set(self.of))

    @property
    def here(self) -> int:
        """The machine of this process."""
        return self.of[self.rank]

    def assign(self, images: int) -> NDArray[np.int32]:
        """The machine of each of `images` consecutive images, int32[images]: as many for each process."""
        ends = np.round(np.cumsum(np.bincount(self.of)) / len(self.of) * images).astype(np.int64)
        return np.searchsorted(ends, np.arange(images), side="right").astype(np.int32)

    def held(self, rows: Rows) -> Rows:
        """Those of a data set that are on this machine; neighbours stay together, so that few shards are read."""
        return rows.take(self.assign(len(rows)) == self.here)

    def share(self, parts: list[int]) -> NodeShare:
        """How data sets of so many images each, one after another, are divided."""
        node_of = np.concatenate([self.assign(images) for images in parts])
        return NodeShare(
            node_of,
            np.flatnonzero(node_of == self.here),
            self.here,
            self.of[: self.rank].count(self.here),
            self.of.count(self.here),
        )
