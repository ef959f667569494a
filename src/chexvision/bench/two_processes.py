"""Training in two processes against one, each process on a core of its own: the ratio of images a second.

    python benchmarks/two_processes.py SHARDS

Prints JSON. Two equal devices that share nothing should come near 2.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SETTINGS = [
    "data.image_size=96",
    "data.max_train_images=384",
    "data.max_validation_images=32",
    "optim.batch_size=96",
    "optim.micro_batch_size=24",
    "training.ema_decay=0",
    "training.phases=[{epochs: 2, lr: 1e-4, min_lr: 0, warmup_epochs: 0, freeze_backbone: false}]",
]


def images_per_second(shards: Path, processes: int) -> float:
    """The second epoch's, of DenseNet-121 on the CPU."""
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    )
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, *launcher, "-m", "chexvision", "train", "--model", "densenet", "--preset", "smoke"]
        command += [*settings, "--data", str(shards), "--work", work]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_TOKEN": ""}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        history = json.loads((Path(work) / "artifact" / "history.json").read_text())
    return float(history[-1]["train_images_per_second"])


if __name__ == "__main__":
    one, two = (images_per_second(Path(sys.argv[1]), processes) for processes in (1, 2))
    print(json.dumps({"one, images/s": one, "two, images/s": two, "ratio": two / one}, indent=2))
