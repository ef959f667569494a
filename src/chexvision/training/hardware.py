"""The hardware of this process: device, precision, processes, and settings for speed."""

from __future__ import annotations

import os
import platform
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs

from chexvision.artifact.contents import Hardware
from chexvision.data.loader import Rank
from chexvision.errors import UsageError
from chexvision.inference.device import best_precision, choose_kernels, cpu_info, glibc, retain_freed_memory

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
    chosen = best_precision("cuda" if cuda else "cpu") if precision == "auto" else precision
    if chosen == "fp16" and not cuda:
        raise UsageError("precision fp16 needs a GPU; use auto, fp32 or bf16 on a CPU")
    if not cuda and keep_freed_memory:
        retain_freed_memory()
    choose_kernels(chosen)
    # A process may start another precision, as benchmarks do. Accelerate has no public way to allow that.
    AcceleratorState._reset_state()
    timeout = InitProcessGroupKwargs(timeout=_PROCESS_GROUP_TIMEOUT)
    return Accelerator(cpu=not cuda, mixed_precision=_MIXED_PRECISION[chosen], kwargs_handlers=[timeout])


def rank_of(accelerator: Accelerator) -> Rank:
    """Which of the processes this is, and its device."""
    world = accelerator.num_processes
    # Launchers say so: torchrun and Ray.
    on_machine = int(os.environ.get("LOCAL_WORLD_SIZE", world)) if world > 1 else 1
    return Rank(accelerator.device, accelerator.process_index, world, on_machine)


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


def cpu_name() -> str:
    """The model name of the processor."""
    return cpu_info("model name") or platform.processor() or platform.machine()


def release_freed_memory() -> None:
    """Let glibc return freed memory to the system once, so that the process's size is what it uses."""
    if (libc := glibc()) is not None:
        libc.malloc_trim(0)
