"""Shards made on a Ray cluster: each is one task that any node can do, and again if the node is lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from chexvision import __version__
from chexvision.cluster.connect import Cluster, ray_module
from chexvision.cluster.waiting import Room
from chexvision.errors import ChexError
from chexvision.foreign import printable
from chexvision.shards.build import Make
from chexvision.shards.manifest import ShardEntry
from chexvision.shards.planned.ledger import CANNOT_READ, Built, finished_shard, record_of
from chexvision.shards.planned.make import Item, ShardRecipe, Work, make_shards
from chexvision.shards.planned.outputs import Output
from chexvision.shards.planned.plan import PlannedShard

_RETRIES = 5  # of a shard whose node was lost; errors of the program are not tried again
_AHEAD = 2  # tasks per CPU that are submitted: one runs, one is ready


def shards_on(cluster: Cluster) -> Make:
    """What `build_shards` takes as `make` to use all CPUs of a cluster.

    Every node needs the images and the output under the same paths or URLs, and the same version of this package.
    Only names and labels are sent to the tasks, and hashes come back.
    """
    return partial(_make_on, cluster)


def _make_on(cluster: Cluster, work: Work) -> Iterator[Built]:
    """See `make_shards`; the shards come in any order."""
    ray = ray_module()
    # No image is sent: a task's argument is some hundred bytes per image.
    task = ray.remote(num_cpus=1, max_retries=_RETRIES)(make_shard)
    room = Room("a shard", {"CPU": 1})
    waiting: dict[Any, PlannedShard[Item]] = {}
    left = deque(work.shards)
    try:
        while left or waiting:
            most = work.workers or _AHEAD * max(cluster.cpus, 1)
            while left and len(waiting) < most:
                shard = left.popleft()
                waiting[task.remote(shard, work.recipe, work.output, work.recipe.key(shard))] = shard
            for reference in room.wait(list(waiting)):
                shard = waiting.pop(reference)
                built = _result(ray, reference, shard)
                _check_shared(built, shard, work.output)
                work.seen(len(shard.images), built.bad)
                yield built
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)


def make_shard(shard: PlannedShard[Item], recipe: ShardRecipe, output: Output, key: str) -> Built:
    """Make one shard on this machine, unless it is there already.

    Args:
        shard: what is in it.
        recipe: of the set.
        output: where it appears.
        key: the shard's, by the process that planned it.

    Raises:
        ChexError: this machine has other versions, or lacks the images or the output; or as `make_shards`.
    """
    if recipe.key(shard) != key:
        raise ChexError(
            f"a node has another version of chexvision (here {__version__}), pyarrow or OpenCV than the one "
            "that runs the command; install the same on all nodes"
        )
    for container in {item.found.container for item in shard.images}:
        if isinstance(container, Path) and not container.exists():
            raise ChexError(f"{container} is not there on a node; put --images where all nodes reach them")
    if not output.reachable:
        raise ChexError(f"{output} is not there on a node; name a folder that all nodes share, or a URL, with --out")
    done = finished_shard(output, shard.path, key)  # a node may be lost after its shard was finished
    if done is not None:
        return done
    (built,) = make_shards(Work((shard,), recipe, output, workers=1))
    return built


def _result(ray: Any, reference: Any, shard: PlannedShard[Item]) -> Built:
    again = "; the finished shards are kept: the same command continues after them"
    try:
        built: Built = ray.get(reference)
        return built
    except ray.exceptions.RayTaskError as error:
        cause = error.cause if isinstance(error.cause, Exception) else error
        if isinstance(cause, ChexError):
            raise type(cause)(str(cause)) from None
        reason = printable(str(cause).strip().splitlines()[-1][:300]) if str(cause).strip() else ""
        raise ChexError(f"{shard.path} failed on a node: {type(cause).__name__}: {reason}{again}") from None
    except ray.exceptions.RayError as error:
        kind = type(error).__name__
        raise ChexError(
            f"{shard.path} was begun {_RETRIES + 1} times and its node was lost each time ({kind}){again}"
        ) from None


def _check_shared(built: Built, shard: PlannedShard[Item], output: Output) -> None:
    """Raise ChexError where a node sees other files than this one does."""
    entry: ShardEntry = built.shard
    if not output.holds(entry.path, entry.bytes):
        raise ChexError(
            f"{entry.path} was written on a node and is not in {output} here; name a folder that all nodes share, or "
            "a URL, with --out"
        )
    files = {item.name: item.found.file for item in shard.images}
    for image in built.bad:
        file = files[image.name]
        if image.reason.startswith(CANNOT_READ) and file is not None and file.exists():
            output.remove(record_of(entry.path))
            raise ChexError(f"{file} is here, but on a node it {image.reason}; all nodes need the same --images")
