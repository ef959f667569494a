"""Where and how precisely a network computes."""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import torch

from chexvision.errors import UsageError

DeviceName: TypeAlias = Literal["auto", "cpu", "cuda", "mps"]
Precision: TypeAlias = Literal["auto", "fp32", "fp16", "bf16"]

_TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Computation:
    """A device and a precision that it has.

    Args:
        device: of torch.
        precision: "fp32", "fp16" or "bf16".
    """

    device: torch.device
    precision: str

    @property
    def autocast(self) -> Callable[[], AbstractContextManager[object]]:
        """Gives the context in which networks compute in the precision."""
        if self.precision == "fp32":
            return nullcontext
        return lambda: torch.autocast(self.device.type, _TYPES[self.precision])

    def __str__(self) -> str:
        return f"torch on {self.device.type}, {self.precision}"


def choose_computation(device: DeviceName = "auto", precision: Precision = "fp32") -> Computation:
    """The device and the precision that are asked for.

    Args:
        device: "auto" is the first of cuda, mps and cpu that there is.
        precision: "auto" is bf16 where the hardware has it, else fp16 on a CUDA device and fp32 elsewhere.

    Raises:
        UsageError: this machine has no such device, or the device cannot compute in `precision`.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kind = next(name for name, usable in there.items() if usable) if device == "auto" else device
    if not there[kind]:
        usable = ", ".join(name for name, is_there in there.items() if is_there)
        raise UsageError(f"this machine has no device {kind!r} that torch can use; choose auto or {usable}")
    chosen = best_precision(kind) if precision == "auto" else precision
    if chosen == "fp16" and kind == "cpu":
        raise UsageError("precision fp16 needs a GPU; use auto, fp32 or bf16 on a CPU")
    return Computation(torch.device(kind), chosen)


def best_precision(device: str) -> str:
    """bf16 where the hardware has it, else fp16 on a CUDA device and fp32 elsewhere."""
    if device == "cuda":
        return "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16"
    return "bf16" if {"avx512_bf16", "amx_bf16"} & set(cpu_info("flags").split()) else "fp32"


def choose_kernels(precision: str) -> None:
    """Let cuDNN choose the same kernels each time, and compute "fp32" without TF32, which rounds factors to 10 bits.

    Kernels that are chosen by timing them differ from start to start, and with them the results: on an H200 one
    recipe trained to other weights each time. Without the search, two trainings gave the same bits at the same speed,
    and started up to four times as fast.
    """
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = precision != "fp32"


def cpu_info(key: str) -> str:
    """A line of Linux's ``/proc/cpuinfo``; empty where there is none."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""


def retain_freed_memory() -> None:
    """Let glibc keep the activations' buffers: returning them at every step costs CPU time."""
    if (libc := glibc()) is not None:
        m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_top_pad, 256 * 2**20)


def glibc() -> ctypes.CDLL | None:
    """The C library, where it is glibc: macOS, Windows and musl do not have these calls."""
    return ctypes.CDLL(None) if sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc" else None
