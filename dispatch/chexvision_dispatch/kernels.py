"""The kernels by name: a folder of ``kernels/`` each, and what differs in how a session runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chexvision.errors import ChexError
from chexvision.hub.hub_errors import RepoType


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kind of work.

    Args:
        name: its folder in ``kernels/``.
        output: the folder that it leaves what it made in.
        repo_type: what kind of repository that is published to.
        process_per_gpu: whether it is run once for each GPU.
    """

    name: str
    output: str
    repo_type: RepoType
    process_per_gpu: bool


TRAIN = Kernel("train", "artifact", "model", process_per_gpu=True)
SHARDS = Kernel("shards", "shards", "dataset", process_per_gpu=False)
_KERNELS: Mapping[str, Kernel] = {kernel.name: kernel for kernel in (TRAIN, SHARDS)}


def kernel_named(name: str) -> Kernel:
    """The kernel `name`.

    Raises:
        ChexError: there is none; the record was written by another version.
    """
    if name not in _KERNELS:
        raise ChexError(f"unknown kernel {name!r}; known are {', '.join(_KERNELS)}; which version made the run?")
    return _KERNELS[name]
