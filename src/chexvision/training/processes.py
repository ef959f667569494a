"""What the processes of one run do together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from accelerate.utils import broadcast, reduce
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from chexvision.data.loader import Rank

_STEPS_BETWEEN_AGREEMENTS = 10  # how often they ask each other whether to stop


def in_all_processes(network: nn.Module, place: Rank) -> nn.Module:
    """`network` with gradients averaged over all processes; itself where there is one."""
    if place.world == 1:
        return network
    devices = [place.device] if place.device.type == "cuda" else None
    return DistributedDataParallel(network, device_ids=devices, gradient_as_bucket_view=True)


def share_buffers(place: Rank, *modules: nn.Module) -> None:
    """The norms' statistics of the first process, which are the ones saved, to all."""
    if place.world > 1:
        for module in modules:
            for buffer in module.buffers():
                buffer.copy_(broadcast(buffer))


def must_stop(place: Rank, step: int, stop_requested: Callable[[], bool]) -> bool:
    """Whether any process is to stop after `step`; several agree on it every few steps only."""
    if place.world == 1:
        return stop_requested()
    if step % _STEPS_BETWEEN_AGREEMENTS:
        return False
    requests = torch.tensor(float(stop_requested()), device=place.device)
    return bool(reduce(requests, "sum").item() > 0)
