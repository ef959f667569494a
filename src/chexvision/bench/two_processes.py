"""Training in two processes, compared with one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from chexvision.bench.bench_report import Figure, Report, Row
from chexvision.errors import ChexError, UsageError

_SIZE = 96
_IMAGES = 384
_SETTINGS = [
    f"data.image_size={_SIZE}",
    "data.split=patient",  # fits any shards
    f"data.max_train_images={_IMAGES}",
    "data.max_validation_images=32",
    "optim.batch_size=96",
    "optim.micro_batch_size=24",
    "training.ema_decay=0",
    "training.phases=[{epochs: 2, lr: 1e-4, min_lr: 0, warmup_epochs: 0, freeze: none}]",
]


def bench_processes(shards: Path, cluster: str | None = None) -> Report:
    """Measure training of DenseNet-121 on the CPU by one and by two processes with one thread each.

    Two equal devices that share nothing have a ratio near 2.

    Args:
        shards: a folder of at least 600 images.
        cluster: the address of a Ray cluster whose workers are the processes; None: torchrun starts them.

    Raises:
        UsageError: there is no such folder.
        ChexError: training failed.
    """
    if not shards.is_dir():
        raise UsageError(f"--data {shards} is not a folder")
    one, two = (_images_per_second(shards.resolve(), processes, cluster) for processes in (1, 2))
    settings: dict[str, Figure] = {"model": "densenet", "size": _SIZE, "images": _IMAGES, "device": "cpu"}
    settings["started by"] = "torchrun" if cluster is None else "ray"
    ways = {"one process": one, "two processes": two, "ratio": two / one}
    return Report("processes", settings, [Row(way, {"images/s": figure}) for way, figure in ways.items()])


def _images_per_second(shards: Path, processes: int, cluster: str | None) -> float:
    """The throughput of the second epoch."""
    launcher, workers = list[str](), list[str]()
    if cluster is not None:
        workers = ["--on", "ray", "--workers", str(processes), "--address", cluster]
    elif processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    settings = [word for setting in _SETTINGS for word in ("--set", setting)]
    with tempfile.TemporaryDirectory(prefix="chexvision-bench-") as work:
        command = [sys.executable, *launcher, "-m", "chexvision", "train", "--model", "densenet", "--preset", "smoke"]
        command += [*settings, "--data", str(shards), "--work", work, *workers]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_TOKEN": ""}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise ChexError(f"training in {processes} process(es) failed: {last.removeprefix('error: ')}")
        history = json.loads((Path(work) / "artifact" / "history.json").read_text())
    return float(history[-1]["train_images_per_second"])
