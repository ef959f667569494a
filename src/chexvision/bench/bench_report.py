"""The result of a benchmark, as JSON and as a table."""

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
    """One alternative and its measurements by name (units are part of the name)."""

    way: str
    figures: dict[str, Figure]


@dataclass(frozen=True, slots=True)
class Report:
    """All of one benchmark.

    Args:
        benchmark: its name.
        settings: the options.
        rows: ours first, then the alternative.
        machine: device and cores.
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
        """One line per measurement, one column per alternative."""
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
    """A throughput.

    Args:
        per_second: units per second.
        cpu_seconds: of all cores together, per unit.
    """

    per_second: float
    cpu_seconds: float


def rate(work: Callable[[], int], seconds: float = 2.0) -> Rate:
    """Repeat `work`, which returns the number of units it did, for about `seconds` after one call to warm up.

    CPU time is that of this process and of the children that exist during the measurement.
    """
    work()
    units, began, cpu = 0, time.perf_counter(), _cpu_seconds()
    while (elapsed := time.perf_counter() - began) < seconds or not units:
        units += work()
    elapsed = time.perf_counter() - began
    return Rate(units / elapsed, (_cpu_seconds() - cpu) / units)


def wait_for(device: torch.device) -> None:
    """Wait until the work enqueued on a GPU is done; a no-op on a CPU."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _cpu_seconds() -> float:
    """CPU time so far of this process and its children, the data loader's workers."""
    mine = psutil.Process()
    times = [process.cpu_times() for process in (mine, *mine.children(recursive=True))]
    return float(sum(of.user + of.system for of in times))


def _text(value: Figure | None) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
