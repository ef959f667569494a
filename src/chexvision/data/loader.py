"""Batches of a split on the device, gathered ahead of the step that needs them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chexvision.data.dataset import Split
from chexvision.data.epoch_order import epoch_order
from chexvision.data.joined_images import JoinedImages

_AHEAD = 3  # micro-batches waiting in memory
_MIN_IMAGES = 2  # images in a pass: batch norms have no statistics of one image whose last feature map is 1x1


@dataclass(frozen=True, slots=True)
class Rank:
    """The rank of this process among the training processes, and its device.

    Args:
        device: that it computes on.
        rank: from 0.
        world: how many processes there are.
        on_machine: how many of them are on this machine; None: all.
    """

    device: torch.device
    rank: int = 0
    world: int = 1
    on_machine: int | None = None

    @property
    def neighbors(self) -> int:
        """How many of the processes are on this machine, with this one."""
        return self.on_machine or self.world


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The input of one forward pass.

    Args:
        images: uint8[B, H, W] on the device. If the recipe mixes images there is one more, the first: the predecessor
            of the second in the effective batch, of whose step the first image's predecessor is the last.
        targets: `Split.training_targets` on the device, NaN where unknown; also of the predecessor.
        weights: float[B] on the device: 1, or 0 for an image that only pads the pass; without the predecessor.
        positions: int64[B] on the CPU: the position of each image in the effective batch; also of the predecessor.
        mirrored: bool[B] on the CPU: the images to be mirrored; also of the predecessor.
        step: the optimization step of the epoch that it belongs to.
        step_size: images of that step over all processes.
        last: whether the optimization step follows.
    """

    images: Tensor
    targets: Tensor
    weights: Tensor
    positions: Tensor
    mirrored: Tensor
    step: int
    step_size: int
    last: bool

    @property
    def has_predecessor(self) -> bool:
        """Whether the first image is there to be mixed into the second."""
        return len(self.images) > len(self.weights)


@dataclass(frozen=True, slots=True)
class _Share:
    index: NDArray[np.int64]
    positions: NDArray[np.int64]
    weights: NDArray[np.float32]
    step: int
    step_size: int
    last: bool


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Optimization steps of an epoch; the last one takes the remaining images."""
    return -(-images // batch_size)


def images_per_pass(images: int, batch_size: int, micro_batch_size: int, world: int) -> tuple[int, int]:
    """The largest micro-batch of one of `world` processes: in a full step, and in the last step of an epoch."""
    last = images % batch_size or batch_size
    shares = [-(-size // world) for size in (min(batch_size, images), last)]
    fewest = min(_MIN_IMAGES, micro_batch_size)
    full, short = (max(fewest, -(-share // -(-share // micro_batch_size))) for share in shares)
    return full, short


def largest_pass(split: Split, batch_size: int, micro_batch_size: int, process: Rank) -> int:
    """The most images that one pass of an epoch may have in any process."""
    images = split.images_per_epoch
    if split.node_share is None:
        return max(images_per_pass(images, batch_size, micro_batch_size, process.world))
    # A step's images may all be on one machine.
    return max(min(_MIN_IMAGES, micro_batch_size), min(micro_batch_size, batch_size, images))


def training_batches(
    split: Split,
    batch_size: int,
    micro_batch_size: int,
    seed: int,
    epoch: int,
    process: Rank,
    first_step: int = 0,
    *,
    predecessors: bool = False,
) -> Generator[MicroBatch]:
    """This process's micro-batches of one epoch, in an order determined by `seed` and `epoch`.

    Every optimization step covers `batch_size` images of a permutation, divided among the processes and then
    into micro-batches of at most `micro_batch_size`. A micro-batch of fewer than two images is padded with
    the next images of the permutation, which have weight 0.

    Where the images are divided among machines, those of a step are computed where they are, in passes whose number
    may differ between machines, and a micro-batch is padded with images that are there.

    Args:
        split: to train on.
        batch_size: images per optimization step, over all processes.
        micro_batch_size: the most images per forward pass.
        seed: of the run.
        epoch: 0-based.
        process: this process.
        first_step: the step to continue with after an interruption.
        predecessors: whether to add the image that the first of a micro-batch is mixed with.
    """
    order = epoch_order(split, seed, epoch)
    shares = _shares(split, order, batch_size, micro_batch_size, process, first_step, predecessors)
    yield from _prefetched(split, shares, process)


def in_order(split: Split, batch_size: int, process: Rank) -> Generator[MicroBatch]:
    """This process's consecutive part of a split, each image exactly once over all processes."""
    mine = np.array_split(np.arange(len(split), dtype=np.int64), process.world)[process.rank]
    chunks = [mine[at : at + batch_size] for at in range(0, len(mine), batch_size)]
    shares = (
        _Share(chunk, chunk, np.ones(len(chunk), np.float32), step, len(chunk), True)
        for step, chunk in enumerate(chunks)
    )
    yield from _prefetched(split, shares, process)


def _shares(
    split: Split,
    order: NDArray[np.int64],
    batch_size: int,
    micro_batch_size: int,
    process: Rank,
    first_step: int,
    predecessors: bool,
) -> Iterator[_Share]:
    for step in range(first_step, steps_per_epoch(len(order), batch_size)):
        index = order[step * batch_size : (step + 1) * batch_size]
        if split.node_share is None:
            mine = np.array_split(np.arange(len(index)), process.world)[process.rank]
        else:
            mine = split.node_share.own(index % len(split))
        chunks = np.array_split(mine, max(1, -(-len(mine) // micro_batch_size)))
        for number, positions in enumerate(chunks):
            counted = len(positions)
            # A process without images takes part in the step as well.
            passed = np.arange(max(counted, min(_MIN_IMAGES, micro_batch_size)))
            if split.node_share is None:
                first = int(positions[0]) if counted else 0
                positions = first + passed
                if predecessors:
                    positions = np.concatenate([[(first - 1) % len(index)], positions])
                images = order[(step * batch_size + positions) % len(order)]
            else:
                padding = np.resize(split.node_share.held, len(passed) - counted)
                images = np.concatenate([index[positions], padding])
                positions = np.concatenate([positions, np.zeros(len(padding), np.int64)])
            yield _Share(
                index=images,
                positions=positions % len(index),
                weights=(passed < counted).astype(np.float32),
                step=step,
                step_size=len(index),
                last=number == len(chunks) - 1,
            )


def _prefetched(split: Split, shares: Iterator[_Share], process: Rank) -> Generator[MicroBatch]:
    """Gather in a thread, so that the next micro-batch is ready when the device needs it."""
    ready: queue.Queue[MicroBatch | BaseException | None] = queue.Queue(_AHEAD)
    stop = threading.Event()
    stream = _copy_stream(process.device) if process.device.type == "cuda" else None
    targets = split.training_targets

    def put(item: MicroBatch | BaseException | None) -> None:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def gather() -> None:
        try:
            if stream is not None:
                # A thread starts on the first GPU: leaving the stream would create a context there in every process.
                torch.cuda.set_device(stream.device)
            for share in shares:
                if stop.is_set():
                    return
                put(_gather(split, targets, share, process, stream))
            put(None)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that uses the batches
            put(error)

    thread = threading.Thread(target=gather, name="chexvision-gather", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            if stream is not None:
                current = torch.cuda.current_stream(process.device)
                current.wait_stream(stream)
                for tensor in (item.images, item.targets, item.weights):
                    tensor.record_stream(current)
            yield item
    finally:
        stop.set()
        thread.join()


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all epochs: the allocator reserves the memory of each stream for that stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _gather(
    split: Split, targets: NDArray[np.float32], share: _Share, process: Rank, stream: torch.cuda.Stream | None
) -> MicroBatch:
    index = share.index % len(split)  # from there on, in an epoch with mirrored images, these are mirrored
    target = torch.from_numpy(targets[index])
    weights = torch.from_numpy(share.weights)
    if stream is None:
        images = _pick(split, index, pinned=False)
    else:
        with torch.cuda.stream(stream):
            images = _pick(split, index, pinned=True).to(process.device, non_blocking=True)
            target = target.pin_memory().to(process.device, non_blocking=True)
            weights = weights.pin_memory().to(process.device, non_blocking=True)
    return MicroBatch(
        images,
        target,
        weights,
        torch.from_numpy(share.positions),
        torch.from_numpy(share.index >= len(split)),
        share.step,
        share.step_size,
        share.last,
    )


def _pick(split: Split, index: NDArray[np.int64], pinned: bool) -> Tensor:
    """uint8[B, H, W] of the images at `index`, on the device if they are there."""
    if split.node_share is not None:
        index = split.node_share.place(index)
    if isinstance(split.images, Tensor):
        return split.images.index_select(0, torch.from_numpy(index).to(split.images.device, non_blocking=True))
    height, width = split.images.shape[1:]
    images = torch.empty((len(index), height, width), dtype=torch.uint8, pin_memory=pinned)
    if isinstance(split.images, JoinedImages):
        split.images.take(index, out=images.numpy())
    else:
        # Directly into the buffer; the mode avoids a check of numpy that would need a copy.
        np.take(split.images, index, axis=0, out=images.numpy(), mode="clip")
    return images
