"""Results that come in any order, handed on in the wanted one without holding many in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO, TypeVar

T = TypeVar("T")


def in_rank_order(results: Iterable[tuple[int, T, bytes]], spill: BinaryIO) -> Iterator[tuple[T, bytes]]:
    """Yield ``(note, data)`` by rank, where `results` holds ``(rank, note, data)``, each rank from 0 on once.

    Args:
        results: in any order; in rank order nothing waits.
        spill: an open file where the data of what comes too early waits.
    """
    waiting: dict[int, tuple[T, int, int]] = {}
    due = 0
    for rank, note, data in results:
        if rank != due:
            waiting[rank] = (note, spill.seek(0, 2), spill.write(data))
            continue
        yield note, data
        due += 1
        while due in waiting:
            note, start, length = waiting.pop(due)
            spill.seek(start)
            yield note, spill.read(length)
            due += 1
