"""Training steps with a tracker whose library hangs, fails or floods, compared with steps without a tracker."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
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

_STEPS = 8  # of an epoch; two epochs a training, the first of which warms up
_WITHOUT = "no tracker"
_AGAIN = "no tracker, again"  # its ratio is what chance makes of this machine
_WAYS = (_WITHOUT, "tensorboard", *FAILING, _AGAIN)
_POLL_SECONDS = 0.2
_START_SECONDS = 20.0  # a library that is still busy then is measured as it is


@dataclass(slots=True)
class _Measured:
    """Of one way: seconds of each step by round, of each record, and of CPU before the first step."""

    steps: list[list[float]] = field(default_factory=list)
    sends: list[float] = field(default_factory=list)
    start: list[float] = field(default_factory=list)


def bench_track(data: Reference, model: str, batch: int, size: int, seconds: float) -> Report:
    """Measure steps of the training loop that send a record each, with every library in each round.

    Training itself sends one every half minute. Time inside `Tracker.send` is what a tracker costs the training
    process; the ratio of the steps' times also contains what its own process takes from the cores once its library
    is imported. Machines drift, so a ratio is within a round, whose order alternates, and the median of the rounds.

    Args:
        data: shards.
        model: a recipe.
        batch: images per step.
        size: side in pixels.
        seconds: no round begins that would not end by then, after the first one.
    """
    end = time.monotonic() + seconds
    recipe = step_recipe(model, size, batch, batch, batch * _STEPS)
    accelerator = start_accelerator(recipe.training.precision)
    splits = opened_splits(data, recipe)

    def train(way: str, into: _Measured) -> None:
        with tempfile.TemporaryDirectory(prefix="chexvision-bench-") as work, _sink(way) as sink:
            run = {"run_id": "bench", "group": model, "config": {}}
            tracker = Tracker(sink, Path(work) / "tracking", run)
            tracker.send(0, {"step_loss": 1.0})
            into.start.append(_cpu_seconds_of_start())
            reporter = _EveryStep(tracker)
            network = build_model(recipe)
            used = (splits["train"], splits["validation"])
            Training(recipe, network, *used, accelerator, Path(work), reporter).run()
            tracker.close(0.0 if way == "hangs" else None)
        into.steps.append(reporter.steps)
        into.sends += reporter.sends

    train(_WITHOUT, _Measured())
    measured = {way: _Measured() for way in _WAYS}
    rounds, longest = 0, 0.0
    while not rounds or time.monotonic() + longest < end:
        began = time.monotonic()
        for way in _WAYS if rounds % 2 == 0 else _WAYS[::-1]:
            train(way, measured[way])
        rounds, longest = rounds + 1, max(longest, time.monotonic() - began)
    rows = [_row(way, measured[way], measured[_WITHOUT]) for way in _WAYS]
    settings: dict[str, Figure] = {"model": model, "batch": batch, "size": size, "rounds": rounds}
    return Report("track", settings, rows)


def _row(way: str, of: _Measured, without: _Measured) -> Row:
    step = statistics.median(one for steps in of.steps for one in steps)
    ratios = [statistics.median(a) / statistics.median(b) for a, b in zip(of.steps, without.steps, strict=True)]
    figures: dict[str, Figure] = {"ms/step": 1e3 * step, "ratio": statistics.median(ratios)}
    figures |= {"lowest ratio": min(ratios), "highest ratio": max(ratios)}
    if way not in (_WITHOUT, _AGAIN):
        sent = statistics.median(of.sends)
        figures |= {
            "µs/record": 1e6 * sent,
            "slowest record, µs": 1e6 * max(of.sends),
            "% of a step": 100 * sent / step,
        }
        figures["start, CPU seconds"] = statistics.median(of.start)
    return Row(way, figures)


def _cpu_seconds_of_start() -> float:
    """CPU time of the tracker's process until it rests, its library imported; 0 without one."""
    end, used = time.monotonic() + _START_SECONDS, 0.0
    with suppress(psutil.Error):  # it has ended
        for child in psutil.Process().children():
            if "chexvision.tracking.sink_process" not in child.cmdline():
                continue
            while time.monotonic() < end:
                before, used = used, sum(child.cpu_times()[:2])
                if used and used == before:
                    break
                time.sleep(_POLL_SECONDS)
    return used


@contextmanager
def _sink(way: str) -> Iterator[str]:
    """The value of ``training.track`` for a way; a failing library takes the place of a real one."""
    if way in (_WITHOUT, _AGAIN):
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
        self._epoch, self._sent = 0, 1  # record 0 was sent before
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
