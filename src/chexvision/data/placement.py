"""Where the decoded images of a split are while it is used: on which machine; on disk, in memory or on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import torch

from chexvision.config.recipe import Recipe
from chexvision.data.dataset import Split
from chexvision.data.division import UsedImages
from chexvision.data.loader import Rank
from chexvision.data.mixing import mixes
from chexvision.data.mixture import check_run_data
from chexvision.data.node_share import Nodes
from chexvision.errors import ChexError, UsageError
from chexvision.hub.reference import Reference

Placement = Literal["auto", "disk", "memory", "device", "nodes"]

# The rest is for the model, its activations and the operating system.
_DEVICE_SHARE = 0.25
_MEMORY_SHARE = 0.4
_CGROUP = Path("/sys/fs/cgroup")


def placed(split: Split, placement: Placement, process: Rank) -> Split:
    """`split` with its images moved to `placement`.

    Args:
        split: its images are a memory map.
        placement: "auto" takes the device if they need at most a quarter of its free memory, else memory if all
            processes' copies need at most two fifths of the free memory, else the disk, whose cache the processes
            share. Without a GPU the device is the memory. "nodes" is "auto" for the images of this machine.
        process: this process.

    Raises:
        ChexError: they do not fit there.
    """
    needed = int(np.prod(split.images.shape, dtype=np.int64))
    chosen = _choose(needed, process) if placement in ("auto", "nodes") else placement
    if chosen == "disk":
        return split
    if chosen == "device" and process.device.type == "cuda":
        _check(split, needed, _free_on_device(process), "device")
        return replace(split, images=_on_device(split, process))
    _check(split, needed * process.neighbors, _free_memory(), "memory")
    return replace(split, images=np.array(split.images))


def used_here(
    recipe: Recipe, data: Reference | None, nodes: Nodes, process: Rank, some: Callable[[bool], bool]
) -> UsedImages | None:
    """Which images this machine uses, where the training images are divided among machines; None where each has all.

    They are if the recipe says so, or ("auto") if on some machine neither device nor memory can hold all of them.

    Args:
        recipe: of the run.
        data: a data set in place of the recipe's.
        nodes: the machines.
        process: this process.
        some: whether something holds in any process; all processes ask the same.

    Raises:
        UsageError: the recipe says so, and uses images together that may be on different machines.
    """
    config = recipe.data
    if nodes.count == 1 or config.placement not in ("auto", "nodes"):
        return None
    together = "mixup and CutMix mix any two images of a step" if mixes(recipe.augment) else ""
    if recipe.loss.taught_by is not None:
        together = "loss.teacher predicts all training images"
    if together:
        if config.placement == "nodes":
            raise UsageError(f"data.placement=nodes: {together}, also of different machines; set data.placement=auto")
        return None
    divisions = check_run_data(config, data, needed=())
    images = sum(len(of.sampled(config, recipe.training.seed)["train"]) for of in divisions.values())
    if config.placement == "auto" and not some(_choose(images * config.image_size**2, process) == "disk"):
        return None
    return UsedImages(nodes, divisions, recipe.training.seed)


def _choose(needed: int, process: Rank) -> Placement:
    if process.device.type == "cuda" and needed <= _DEVICE_SHARE * _free_on_device(process):
        return "device"
    return "memory" if needed * process.neighbors <= _MEMORY_SHARE * _free_memory() else "disk"


def _check(split: Split, needed: int, free: int, where: str) -> None:
    if needed > free:
        raise ChexError(
            f"the {split.name} images need {needed / 1e9:.1f} GB, but the {where} has {free / 1e9:.1f} GB free; "
            "set data.placement=auto"
        )


def _on_device(split: Split, process: Rank, rows: int = 4096) -> torch.Tensor:
    """uint8[N, H, W] on the device, copied in parts so that no second copy is in memory."""
    images = torch.empty(split.images.shape, dtype=torch.uint8, device=process.device)
    for start in range(0, len(split), rows):
        images[start : start + rows] = torch.from_numpy(np.array(split.images[start : start + rows]))
    return images


def _free_on_device(process: Rank) -> int:
    return torch.cuda.mem_get_info(process.device)[0]


def _free_memory() -> int:
    """Bytes that a process can still allocate: what the system reports, or the rest of its control group's limit."""
    free: int = psutil.virtual_memory().available
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no control group, as on macOS, or no limit: "max"
        return free
    # Cached files count as used, decoded images among them, but are evicted when memory is needed.
    return max(0, min(free, limit - used + int(stat.get("inactive_file", 0))))
