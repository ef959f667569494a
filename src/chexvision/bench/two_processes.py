"""Training steps of two processes, compared with those of one; torchrun or a Ray cluster starts the processes.

What a process does is `time_steps`: Ray calls it, and torchrun starts this module:

    python -m chexvision.bench.two_processes RECIPE.json SHARDS WORK
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel
from torch import Tensor

from chexvision.bench.bench_report import Figure, Report, Row
from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import write_text_atomic
from chexvision.files.json_files import read_record
from chexvision.provenance import Provenance
from chexvision.recipes import dump_resolved, load_recipe, read_resolved
from chexvision.training.hardware import rank_of, start_accelerator
from chexvision.training.loop import Training
from chexvision.training.reporter import ConsoleReporter
from chexvision.training.run import TrainingOutcome
from chexvision.training.start.prepared import prepare
from chexvision.training.training_session import TrainingJob, TrainingProgress

if TYPE_CHECKING:
    from chexvision.runs.session import Session
    from chexvision.training.history import History

_MODEL, _SIZE, _BATCH = "densenet", 96, 48
_STEPS = 6
_NOT_COUNTED = 2  # of these: the first steps allocate memory, and DDP orders its buckets after the first
_SETTINGS = [
    f"data.image_size={_SIZE}",
    "data.split=patient",  # fits any shards
    "data.mirror=false",
    f"data.max_train_images={_STEPS * _BATCH}",
    "data.max_validation_images=8",  # validation is not measured
    f"optim.batch_size={_BATCH}",
    f"optim.micro_batch_size={_BATCH // 2}",  # passes of one size, whether one process takes two or two take one
    "training.ema_decay=0",
    "training.phases=[{epochs: 1, lr: 1e-4, min_lr: 0, warmup_epochs: 0, freeze: none}]",
]
Start = Callable[[TrainingJob, int], object]  # has `time_steps` called in so many processes
_RECIPE, _TIMES, _SHOWN = "recipe.json", "steps.json", "benchmark: "


class StepTimes(BaseModel):
    """What the first of the processes measured.

    Args:
        seconds: of each step, in order.
        images: of each step, over all processes.
        processes: that took the steps together.
        threads: of each process.
        device: that each computed on.
    """

    seconds: list[float]
    images: list[int]
    processes: int
    threads: int
    device: str

    @property
    def images_per_second(self) -> float:
        """The median over the steps that count."""
        steps = list(zip(self.images, self.seconds, strict=True))[_NOT_COUNTED:]
        return statistics.median(images / seconds for images, seconds in steps)

    @property
    def row(self) -> Row:
        """For the report."""
        way = {1: "one process", 2: "two processes"}[self.processes]
        rates: dict[str, Figure] = {"images/s": self.images_per_second, "threads per process": self.threads}
        return Row(way, rates)


def bench_processes(shards: Path, start: Start | None = None) -> Report:
    """Measure training steps of DenseNet-121 by one and by two processes, with one thread each on a CPU.

    A step has the same images in either case. Two equal devices that share nothing have a ratio near 2. What the
    processes do is shown on stderr.

    Args:
        shards: a folder of at least 600 images.
        start: starts the workers of a Ray cluster as the processes; None: torchrun starts them.

    Raises:
        UsageError: there is no such folder.
        ChexError: training failed.
    """
    if not shards.is_dir():
        raise UsageError(f"--data {shards} is not a folder")
    recipe = load_recipe(_MODEL, preset="smoke", overrides=_SETTINGS)
    job = TrainingJob(recipe, shards.resolve(), Path(), Provenance.here("bench"))
    one, two = (_times(job, processes, start or _by_torchrun) for processes in (1, 2))
    settings: dict[str, Figure] = {"model": _MODEL, "size": recipe.data.image_size, "batch": recipe.optim.batch_size}
    settings |= {"steps": len(one.seconds) - _NOT_COUNTED, "device": one.device}
    settings |= {"started by": "ray" if start is not None else "torchrun"}
    ratio: dict[str, Figure] = {"images/s": two.images_per_second / one.images_per_second}
    return Report("processes", settings, [one.row, two.row, Row("ratio", ratio)])


def _times(job: TrainingJob, processes: int, start: Start) -> StepTimes:
    print(f"{_SHOWN}{processes} of 2 processes", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="chexvision-bench-") as work:
        job = replace(job, work=Path(work))
        start(job, processes)
        times = read_record(job.work / _TIMES, StepTimes)
    if len(times.seconds) <= _NOT_COUNTED:
        raise UsageError(f"--data {job.data} has too few images to train on: {sum(times.images)}")
    return times


def _by_torchrun(job: TrainingJob, processes: int) -> None:
    (job.work / _RECIPE).write_bytes(dump_resolved(job.recipe))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    words = [*launcher, "-m", __name__, str(job.work / _RECIPE), str(job.data)]
    last = "no output"
    with subprocess.Popen(
        [*words, str(job.work)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as started:
        for line in started.stderr or ():
            if line.startswith(_SHOWN):
                print(line, end="", file=sys.stderr, flush=True)
            elif line.startswith("error: "):
                last = line.removeprefix("error: ").strip()
    if started.returncode:
        raise ChexError(f"training in {processes} process(es) failed: {last}")


def time_steps(
    job: TrainingJob,
    on_session: Callable[[Session], None] = lambda session: None,
    on_saved: Callable[[], None] = lambda: None,
) -> TrainingOutcome:
    """Take the steps in this process, one of those that train together; the first leaves their times in the folder.

    Args:
        job: of which recipe, data and folder are used.
        on_session: called with the session when it has begun.
        on_saved: not called: what is saved is not used again.

    Raises:
        ChexError: it was stopped.
    """
    progress = TrainingProgress(job.work, job.provenance.run_id)
    with progress.session:
        on_session(progress.session)
        accelerator = start_accelerator(job.recipe.training.precision)
        # Afterwards: without OMP_NUM_THREADS accelerate gives a process that torchrun started alone all cores.
        torch.set_num_threads(1)
        rank = rank_of(accelerator)
        prepared = prepare(job.recipe, job.data, accelerator)
        splits, clock = prepared.splits, _Clock()
        training = Training(
            *(job.recipe, prepared.model, splits["train"], splits["validation"], accelerator, job.work),
            reporter=clock if accelerator.is_main_process else None,
            should_stop=progress.session.should_stop,
        )
        finished = training.run()
        accelerator.end_training()
        if not finished:
            raise ChexError("it was stopped")
    if accelerator.is_main_process:
        device = torch.cuda.get_device_name() if rank.device.type == "cuda" else rank.device.type
        threads = torch.get_num_threads()
        times = StepTimes(
            seconds=clock.seconds, images=clock.images, processes=rank.world, threads=threads, device=device
        )
        write_text_atomic(job.work / _TIMES, times.model_dump_json())
    return TrainingOutcome(finished=True)


class _Clock(ConsoleReporter):
    """Keeps the time of each step, and prints it to stderr, since stdout is for the benchmark's result."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.images: list[int] = []
        self._left = 0
        self._began = 0.0

    def epoch_begins(self, epoch: int, epochs: int, images: int, done: int) -> None:
        """Start the clock."""
        self._left, self._began = images, time.perf_counter()

    def step_done(self, images: int, loss_sum: Tensor) -> None:
        """Wait for the device, and stop the clock."""
        loss_sum.item()
        self.seconds.append(time.perf_counter() - self._began)
        self.images.append(images)
        self._left -= images
        what = f"step {len(self.seconds)}, {images / self.seconds[-1]:.1f} images/s, {self._left} images left"
        print(f"{_SHOWN}{what}", file=sys.stderr, flush=True)
        self._began = time.perf_counter()

    def epoch_done(self, history: History, is_kept: bool) -> None:
        """Print nothing."""


def _main(recipe: str, shards: str, work: str) -> None:
    try:
        time_steps(TrainingJob(read_resolved(Path(recipe)), Path(shards), Path(work), Provenance.here("bench")))
    except ChexError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    _main(*sys.argv[1:])
