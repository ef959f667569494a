"""Training steps with a tracker whose library hangs, fails or floods, compared with steps without a tracker."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from chexvision.bench.bench_report import Figure, Report, Row
from chexvision.bench.failing_sinks import FAILING
from chexvision.bench.steps import opened_splits, step_recipe
from chexvision.hub.reference import Reference
from chexvision.models.untrained import build_model
from chexvision.tracking.tracker import SINKS, SinkKind, Tracker
from chexvision.training.hardware import start_accelerator
from chexvision.training.loop import Training
from chexvision.training.reporter import ConsoleReporter

_STEPS = 12  # of an epoch; two epochs a round, the first of which warms up
_WITHOUT = "no tracker"


def bench_track(data: Reference, model: str, batch: int, size: int, rounds: int) -> Report:
    """Measure steps of the training loop that send a record each, with every library in each round.

    Training itself sends one every half minute. Time inside `Tracker.send` is what a tracker costs the training
    process; the ratio of the steps' times also contains what its own process takes from the cores.

    Args:
        data: shards.
        model: a recipe.
        batch: images per step.
        size: side in pixels.
        rounds: trainings with each library.
    """
    recipe = step_recipe(model, size, batch, batch, batch * _STEPS)
    accelerator = start_accelerator(recipe.training.precision)
    splits = opened_splits(data, recipe)
    steps: dict[str, list[float]] = defaultdict(list)
    sends: dict[str, list[float]] = defaultdict(list)
    # The first training warms up and is not counted.
    for number, way in enumerate((_WITHOUT, *(_WITHOUT, "tensorboard", *FAILING) * rounds)):
        with tempfile.TemporaryDirectory(prefix="chexvision-bench-") as work, _sink(way) as sink:
            run = {"run_id": "bench", "group": model, "config": {}}
            tracker = Tracker(sink, Path(work) / "tracking", run)
            reporter = _EveryStep(tracker)
            network = build_model(recipe)
            training = Training(
                recipe, network, splits["train"], splits["validation"], accelerator, Path(work), reporter
            )
            training.run()
            tracker.close(0.0 if way == "hangs" else None)
        if number:
            steps[way] += reporter.steps
            sends[way] += reporter.sends
    rows = [_row(way, steps[way], steps[_WITHOUT], sends[way]) for way in steps]
    settings: dict[str, Figure] = {"model": model, "batch": batch, "size": size, "rounds": rounds}
    return Report("track", settings, rows)


def _row(way: str, steps: list[float], without: list[float], sends: list[float]) -> Row:
    step = statistics.median(steps)
    figures: dict[str, Figure] = {"ms/step": 1e3 * step, "ratio": step / statistics.median(without)}
    if way != _WITHOUT:
        sent = statistics.mean(sends)
        figures |= {"µs/record": 1e6 * sent, "slowest record, µs": 1e6 * max(sends), "% of a step": 100 * sent / step}
    return Row(way, figures)


@contextmanager
def _sink(way: str) -> Iterator[str]:
    """The value of ``training.track`` for a way; a failing library takes the place of a real one."""
    if way == _WITHOUT:
        yield "none"
    elif way in SINKS:
        yield way
    else:
        SINKS[way] = SinkKind(f"chexvision.bench.failing_sinks:{FAILING[way].__name__}", "torch", "torch")
        try:
            yield way
        finally:
            del SINKS[way]


class _EveryStep(ConsoleReporter):
    """Sends a record at each step, and keeps the times of both; prints nothing."""

    def __init__(self, tracker: Tracker) -> None:
        super().__init__()
        self.steps: list[float] = []
        self.sends: list[float] = []
        self._tracker = tracker
        self._epoch = self._sent = 0
        self._began = 0.0

    def epoch_begins(self, epoch: int, epochs: int, images: int, done: int) -> None:
        """Start the clock."""
        self._epoch, self._began = epoch, time.perf_counter()

    def step_done(self, images: int, loss_sum: Tensor) -> None:
        """Send, and time it."""
        before = time.perf_counter()
        self._tracker.send(self._sent, {"step_loss": 1.0})
        now = time.perf_counter()
        self._sent += 1
        if self._epoch > 1:
            self.sends.append(now - before)
            self.steps.append(now - self._began)
        self._began = now

    def epoch_done(self, history: object, is_kept: bool) -> None:
        """Print nothing."""
