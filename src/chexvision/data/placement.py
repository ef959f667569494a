"""Where the decoded images of a split lie while it is used: on disk, in memory, or on the device."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from chexvision.data.dataset import Split
from chexvision.data.loader import Place
from chexvision.errors import ChexError

Placement = Literal["auto", "disk", "memory", "device"]

# What the model, its activations and the operating system are left with.
_DEVICE_SHARE = 0.25
_MEMORY_SHARE = 0.4


def placed(split: Split, placement: Placement, place: Place) -> Split:
    """`split` with its images where `placement` wants them.

    Args:
        split: its images are a memory map.
        placement: "auto" takes the device if they fill no more than a quarter of what is free there, else
            memory if all processes' copies fill no more than two fifths of what is free there, else the disk,
            whose cache the processes share. Without a GPU the device is the memory.
        place: this process.

    Raises:
        ChexError: they do not fit where they were wanted.
    """
    needed = int(np.prod(split.images.shape, dtype=np.int64))
    chosen = _choose(needed, place) if placement == "auto" else placement
    if chosen == "disk":
        return split
    if chosen == "device" and place.device.type == "cuda":
        _check(split, needed, _free_on_device(place), "device")
        return replace(split, images=_on_device(split, place))
    _check(split, needed * place.world, _free_memory(), "memory")
    return replace(split, images=np.array(split.images))


def _choose(needed: int, place: Place) -> Placement:
    if place.device.type == "cuda" and needed <= _DEVICE_SHARE * _free_on_device(place):
        return "device"
    return "memory" if needed * place.world <= _MEMORY_SHARE * _free_memory() else "disk"


def _check(split: Split, needed: int, free: int, where: str) -> None:
    if needed > free:
        raise ChexError(
            f"the {split.name} images need {needed / 1e9:.1f} GB, but the {where} has {free / 1e9:.1f} GB free; "
            "set data.placement=auto"
        )


def _on_device(split: Split, place: Place, rows: int = 4096) -> torch.Tensor:
    """uint8[N, H, W] on the device, copied a part at a time so that no second copy is in memory."""
    images = torch.empty(split.images.shape, dtype=torch.uint8, device=place.device)
    for start in range(0, len(split), rows):
        images[start : start + rows] = torch.from_numpy(np.array(split.images[start : start + rows]))
    return images


def _free_on_device(place: Place) -> int:
    return torch.cuda.mem_get_info(place.device)[0]


def _free_memory() -> int:
    """Bytes that a process can still take: what the kernel says, or what its control group leaves."""
    free = [os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = [int(fields["MemAvailable"].split()[0]) * 1024]
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and limit.read_text().strip() != "max":
        free.append(int(limit.read_text()) - int(used.read_text()))
    return max(0, min(free))
