"""The hardware of this process: device, precision, processes, and settings for speed."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs

from chexvision.artifact.contents import Hardware
from chexvision.data.loader import Rank
from chexvision.errors import UsageError

# The others wait while the first downloads and decodes: the default of ten minutes ends a run on a slow network.
_PROCESS_GROUP_TIMEOUT = timedelta(hours=1)
_MIXED_PRECISION = {"fp32": "no", "fp16": "fp16", "bf16": "bf16"}
_RECORDED_PACKAGES = (
    "accelerate",
    "huggingface_hub",
    "numpy",
    "opencv-python-headless",
    "pyarrow",
    "torch",
    "torchvision",
)


def start_accelerator(precision: str, *, keep_freed_memory: bool = True) -> Accelerator:
    """An Accelerator for this process in the recipe's precision.

    Args:
        precision: "auto", "fp32", "fp16" or "bf16".
        keep_freed_memory: without a GPU, whether freed memory stays with this process from now on.

    Raises:
        UsageError: the hardware cannot compute in `precision`.
    """
    cuda = torch.cuda.is_available()
    chosen = _best_precision(cuda) if precision == "auto" else precision
    if chosen == "fp16" and not cuda:
        raise UsageError("precision fp16 needs a GPU; use auto, fp32 or bf16 on a CPU")
    if not cuda and keep_freed_memory:
        _keep_freed_memory()
    # Kernels that are chosen by timing them differ from start to start, and with them the results: on an H200 the
    # same recipe trained to other weights each time. Without the search, two trainings gave the same bits at the same
    # speed, and started up to four times as fast.
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    # TF32 rounds the factors of products to 10 bits.
    torch.backends.cudnn.allow_tf32 = chosen != "fp32"
    # A process may start another precision, as benchmarks do. Accelerate has no public way to allow that.
    AcceleratorState._reset_state()
    timeout = InitProcessGroupKwargs(timeout=_PROCESS_GROUP_TIMEOUT)
    return Accelerator(cpu=not cuda, mixed_precision=_MIXED_PRECISION[chosen], kwargs_handlers=[timeout])


def rank_of(accelerator: Accelerator) -> Rank:
    """Which of the processes this is, and its device."""
    return Rank(accelerator.device, accelerator.process_index, accelerator.num_processes)


def describe(accelerator: Accelerator) -> Hardware:
    """The hardware `accelerator` runs on."""
    cuda = accelerator.device.type == "cuda"
    named = {value: key for key, value in _MIXED_PRECISION.items()}
    return Hardware(
        device=torch.cuda.get_device_name(accelerator.device) if cuda else cpu_name(),
        processes=accelerator.num_processes,
        precision=named[accelerator.mixed_precision],
        cpu_count=os.cpu_count() or 1,
        platform=platform.platform(),
    )


def package_versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    from chexvision import __version__

    versions = {"chexvision": __version__, "python": platform.python_version()}
    for package in _RECORDED_PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"  # another build, such as opencv-python, provides the module
    return versions


def peak_memory_mb(device: torch.device) -> float | None:
    """Peak memory of tensors on a GPU since `forget_peak_memory`, in 10^6 bytes."""
    return torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None


def forget_peak_memory(device: torch.device) -> None:
    """Reset the peak: memory of the micro-batch probe is not training's."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _best_precision(cuda: bool) -> str:
    """bf16 where the hardware has it, else fp16 on a GPU and fp32 on a CPU."""
    if cuda:
        return "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16"
    return "bf16" if {"avx512_bf16", "amx_bf16"} & set(_cpu_info("flags").split()) else "fp32"


def cpu_name() -> str:
    """The model name of the processor."""
    return _cpu_info("model name") or platform.processor() or platform.machine()


def _cpu_info(key: str) -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""


def release_freed_memory() -> None:
    """Let glibc return freed memory to the system once, so that the process's size is what it uses."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def _keep_freed_memory() -> None:
    """Let glibc keep the activations' buffers: returning them at every step costs CPU time."""
    if (libc := _glibc()) is not None:
        m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_top_pad, 256 * 2**20)


def _glibc() -> ctypes.CDLL | None:
    """The C library, where it is glibc: macOS, Windows and musl do not have these calls."""
    return ctypes.CDLL(None) if sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc" else None
