"""What the processes of one run do together: averaged gradients, equal buffers, a common stop."""

from __future__ import annotations

from collections.abc import Callable

import torch
from accelerate.utils import broadcast, reduce
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from chexvision.data.loader import Rank

_STEPS_BETWEEN_AGREEMENTS = 10  # how often they agree on whether to stop


def wrap_in_ddp(network: nn.Module, rank: Rank, *, unused: bool) -> nn.Module:
    """`network` with gradients averaged over all processes; itself where there is one.

    Args:
        network: what is trained.
        rank: of this process.
        unused: whether parameters that require gradients may get none.
    """
    if rank.world == 1:
        return network
    devices = [rank.device] if rank.device.type == "cuda" else None
    return DistributedDataParallel(
        network, device_ids=devices, gradient_as_bucket_view=True, find_unused_parameters=unused
    )


def broadcast_buffers(rank: Rank, *modules: nn.Module) -> None:
    """Broadcast the batch norms' statistics of the first process, which are the ones saved, to all."""
    if rank.world > 1:
        for module in modules:
            for buffer in module.buffers():
                buffer.copy_(broadcast(buffer))


def must_stop(rank: Rank, step: int, stop_requested: Callable[[], bool]) -> bool:
    """Whether any process is to stop after `step`; several agree on it every few steps only."""
    if rank.world == 1:
        return stop_requested()
    if step % _STEPS_BETWEEN_AGREEMENTS:
        return False
    requests = torch.tensor(float(stop_requested()), device=rank.device)
    return bool(reduce(requests, "sum").item() > 0)
