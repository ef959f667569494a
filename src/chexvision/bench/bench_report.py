"""What a benchmark found, as JSON and as a table."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import psutil
import torch
from rich.console import Console
from rich.table import Table

from chexvision.parallel import usable_cores
from chexvision.training.hardware import cpu_name, package_versions

Figure = float | int | str


@dataclass(frozen=True, slots=True)
class Row:
    """One way of doing it, and its figures by name (units are part of the name)."""

    way: str
    figures: dict[str, Figure]


@dataclass(frozen=True, slots=True)
class Report:
    """All of one benchmark.

    Args:
        benchmark: its name.
        settings: what it was asked for.
        rows: ours first, then the alternative.
        machine: what it ran on.
        versions: of the packages it depends on.
    """

    benchmark: str
    settings: dict[str, Figure]
    rows: list[Row]
    machine: dict[str, Figure] = field(default_factory=lambda: this_machine())
    versions: dict[str, str] = field(default_factory=package_versions)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)

    def print_table(self, console: Console) -> None:
        """A line for each figure, a column for each way."""
        names = dict.fromkeys(name for row in self.rows for name in row.figures)
        table = Table(title=f"{self.benchmark} on {self.machine['device']}", title_justify="left")
        table.add_column("")
        for row in self.rows:
            table.add_column(row.way, justify="right")
        for name in names:
            table.add_row(name, *(_text(row.figures.get(name)) for row in self.rows))
        console.print(table)


def this_machine() -> dict[str, Figure]:
    """Device and cores in use."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu_name()
    return {"device": device, "cores": usable_cores()}


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast something went.

    Args:
        per_second: units.
        cpu_seconds: of all cores together, a unit.
    """

    per_second: float
    cpu_seconds: float


def rate(work: Callable[[], int], seconds: float = 2.0) -> Rate:
    """Repeat `work`, which says how many units it did, for about `seconds` after one round to warm up.

    CPU time is that of this process and of its children that live as long as the measurement.
    """
    work()
    units, began, cpu = 0, time.perf_counter(), _cpu_seconds()
    while (elapsed := time.perf_counter() - began) < seconds or not units:
        units += work()
    elapsed = time.perf_counter() - began
    return Rate(units / elapsed, (_cpu_seconds() - cpu) / units)


def wait_for(device: torch.device) -> None:
    """Until a GPU has done what it was given; a CPU has."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _cpu_seconds() -> float:
    """CPU time so far of this process and of its children, which load data."""
    mine = psutil.Process()
    times = [process.cpu_times() for process in (mine, *mine.children(recursive=True))]
    return float(sum(of.user + of.system for of in times))


def _text(value: Figure | None) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
