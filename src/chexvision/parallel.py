"""Work on many images in parallel: results in order, few of them in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import BinaryIO, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_order(work: Callable[[T], R], items: Iterable[T], workers: int, ahead: int | None = None) -> Iterator[R]:
    """`map` over threads: OpenCV and numpy release the GIL while they work.

    At most `ahead` items, ``4 * workers`` by default, are under way or wait for their turn. Leaving the iterator
    early drops what has not begun.
    """
    ahead = ahead or 4 * workers
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def map_as_completed(work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[tuple[T, R]]:
    """Each item with its result, over threads, in the order in which they complete.

    After a failure, or where the iterator is left early, what has not begun is dropped.
    """
    with ThreadPoolExecutor(workers) as pool:
        jobs = {pool.submit(work, item): item for item in items}
        try:
            for job in as_completed(jobs):
                yield jobs[job], job.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


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
