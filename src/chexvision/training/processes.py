"""What the processes of one run do together: averaged gradients, equal buffers, a common stop, one folder."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch
from accelerate.utils import broadcast, gather_object, reduce
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from chexvision import __version__
from chexvision.data.loader import Rank
from chexvision.data.node_share import Nodes
from chexvision.errors import UsageError

_STEPS_BETWEEN_AGREEMENTS = 10  # how often they agree on whether to stop, or to save
_BROADCAST_BYTES = 2**26  # at once: with NCCL they pass through the memory of the GPUs


def wrap_in_ddp(
    network: nn.Module, rank: Rank, *, unused: bool, first_pass: Callable[[nn.Module], None]
) -> nn.Module:
    """`network` with gradients averaged over all processes; itself where there is one.

    Args:
        network: what is trained.
        rank: of this process.
        unused: whether parameters that require gradients may get none.
        first_pass: passes some images through a network and back. DDP arranges gradients in another order after its
            first pass, and sums over more than two processes depend on it: the first step of a run that is resumed
            would be rounded differently from the same step of one that was not cut.
    """
    if rank.world == 1:
        return network
    devices = [rank.device] if rank.device.type == "cuda" else None
    wrapped = DistributedDataParallel(
        network, device_ids=devices, gradient_as_bucket_view=True, find_unused_parameters=unused
    )
    first_pass(wrapped)
    return wrapped


def broadcast_buffers(rank: Rank, *modules: nn.Module) -> None:
    """Broadcast the batch norms' statistics of the first process, which are the ones saved, to all."""
    if rank.world > 1:
        for module in modules:
            for buffer in module.buffers():
                buffer.copy_(broadcast(buffer))


def agreed(rank: Rank, step: int, *requests: Callable[[], bool]) -> list[bool]:
    """Which of `requests` some process makes after `step`; several agree on them every few steps only."""
    if rank.world == 1:
        return [requested() for requested in requests]
    if step % _STEPS_BETWEEN_AGREEMENTS:
        return [False] * len(requests)
    mine = torch.tensor([float(requested()) for requested in requests], device=rank.device)
    return [bool(count > 0) for count in reduce(mine, "sum").tolist()]


def from_first(rank: Rank, read: Callable[[], bytes | None]) -> bytes | None:
    """What `read` returns in the first process, in all of them: the others' machines need not have the file.

    Args:
        rank: of this process; all of them call this.
        read: called in the first process alone.
    """
    if rank.world == 1:
        return read()
    content = read() if rank.rank == 0 else None
    size = torch.tensor(-1 if content is None else len(content), device=rank.device)
    length = int(broadcast(size))
    if length < 0:
        return None
    received = np.empty(length, np.uint8) if content is None else np.frombuffer(content, np.uint8)
    for at in range(0, length, _BROADCAST_BYTES):
        part = np.array(received[at : at + _BROADCAST_BYTES])
        sent = broadcast(torch.from_numpy(part).to(rank.device))
        if content is None:
            received[at : at + _BROADCAST_BYTES] = sent.cpu().numpy()
    return received.tobytes() if content is None else content


def nodes_of(rank: Rank) -> Nodes:
    """The machines of a run; all processes call this."""
    if rank.world == 1:
        return Nodes((0,), 0)
    # As torchrun names it; and Ray.
    named = gather_object([os.environ.get("GROUP_RANK", os.environ.get("NODE_RANK", "0"))])
    numbers = list(dict.fromkeys(named))
    return Nodes(tuple(numbers.index(name) for name in named), rank.rank)


def ranks_where(rank: Rank, holds: bool) -> list[int]:
    """The processes in which it holds; all of them call this."""
    found = gather_object([holds]) if rank.world > 1 else [holds]
    return [number for number, one in enumerate(found) if one]


def check_same_versions(rank: Rank) -> None:
    """Check that all processes compute with the same versions; all of them call this.

    Raises:
        UsageError: they do not.
    """
    if rank.world == 1:
        return
    found = gather_object([f"chexvision {__version__} and torch {torch.__version__}"])
    for number, versions in enumerate(found):
        if versions != found[0]:
            raise UsageError(
                f"process {number} has {versions}, the first process {found[0]}: sums differ between versions; "
                "install the same ones on all machines"
            )
