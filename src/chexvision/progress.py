"""Progress of a long task: a bar in a terminal, a plain line every half minute in a log."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from chexvision.console import LiteralConsole
from chexvision.foreign import printable

_SECONDS_BETWEEN_LINES = 30.0
_SECONDS_BETWEEN_NOTES = 0.5  # next to a bar


class Progress:
    """Counts `unit`s up to `total` and shows count, rate and time left on stderr.

    Args:
        label: what is being done, such as "decoding train".
        total: how many units there are.
        unit: what is counted, in the plural.
        done: units that were done before, not counted into the rate.
        stream: written to; stderr where left out.

    Examples:
        >>> with Progress("decoding train", len(rows), "images") as progress:
        ...     progress.advance(32)
    """

    def __init__(self, label: str, total: float, unit: str, done: float = 0, stream: TextIO | None = None) -> None:
        self.label = printable(label)
        self.total = total
        self.unit = unit
        self.done = done
        self.note = ""
        self._first = done
        self._stream = stream if stream is not None else sys.stderr
        self._began = self._shown = time.monotonic()
        self._bar: Bar | None = None

    def __enter__(self) -> Progress:
        self._began = self._shown = time.monotonic()
        if self._stream.isatty():
            columns = [
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}", markup=False),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
            ]
            self._bar = Bar(*columns, console=LiteralConsole(file=self._stream), transient=True)
            self._task = self._bar.add_task(
                self.label, total=round(self.total), completed=round(self.done), rate="", note=""
            )
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def rate(self) -> float:
        """Units per second since the beginning."""
        return (self.done - self._first) / max(1e-9, time.monotonic() - self._began)

    @property
    def due(self) -> bool:
        """Whether an update will be shown now; compute an expensive `note` only then."""
        wait = _SECONDS_BETWEEN_LINES if self._bar is None else _SECONDS_BETWEEN_NOTES
        return time.monotonic() - self._shown >= wait

    def advance(self, units: float) -> None:
        """Count `units` more; fractions are shown rounded."""
        self.done += units
        due = self.due
        if due:
            self._shown = time.monotonic()
        if self._bar is not None:
            rate = f"{self.rate:,.0f} {self.unit}/s"
            self._bar.update(self._task, completed=round(self.done), rate=rate, note=self.note)
        elif due:
            left = (self.total - self.done) / self.rate if self.rate else 0.0
            parts = [
                f"{self.label} {self.done:,.0f}/{self.total:,.0f}",
                f"{self.rate:,.0f} {self.unit}/s",
                f"{duration(left)} left",
                *([self.note] if self.note else []),
            ]
            print(" · ".join(parts), file=self._stream, flush=True)


def duration(seconds: float) -> str:
    """Seconds as text: 12s, 3m05s, 2h10m."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded}s"
    if rounded < 3600:
        return f"{rounded // 60}m{rounded % 60:02d}s"
    return f"{rounded // 3600}h{rounded % 3600 // 60:02d}m"
