"""Features that only Linux has: cores of a process, /proc, control groups, glibc's allocator."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil
import pytest
import torch

from chexvision.bench import steps as step
from chexvision.bench.bench_report import rate, this_machine, wait_for
from chexvision.cli import main
from chexvision.data import placement
from chexvision.inference.device import retain_freed_memory
from chexvision.parallel import usable_cores


@pytest.fixture
def macos(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Simulates Python on macOS: no affinity, no /proc, no control group, no SC_AVPHYS_PAGES, no glibc."""
    for name in ("sched_getaffinity", "sched_setaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    ask = os.sysconf

    def sysconf(name: str | int) -> int:
        if name == "SC_AVPHYS_PAGES":
            raise ValueError("unrecognized configuration name")
        return ask(name)

    monkeypatch.setattr(os, "sysconf", sysconf)
    monkeypatch.setattr(platform, "libc_ver", lambda *_: ("", ""))
    monkeypatch.setattr(placement, "_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(step, "_STATUS", tmp_path / "proc" / "status")


@pytest.mark.usefixtures("macos")
def test_free_memory_and_cores_are_found_on_macos() -> None:
    assert 0 < placement._free_memory() <= psutil.virtual_memory().total
    assert usable_cores() == os.cpu_count()
    assert this_machine()["cores"] == os.cpu_count()


@pytest.mark.usefixtures("macos")
def test_step_benchmark_on_macos_omits_the_unknown_peak() -> None:
    assert step._Peak(torch.device("cpu")).figure() == {}
    retain_freed_memory()
    wait_for(torch.device("cpu"))


@pytest.mark.usefixtures("macos")
def test_workers_are_refused_in_one_line_on_macos(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "input", "--data", str(tmp_path), "--workers", "1"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: --workers: this system cannot restrict a process to cores; omit the option\n"
    )


@pytest.mark.usefixtures("macos")
def test_radiograph_benchmark_runs_on_macos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "shards", "--data", str(tmp_path)])
    assert "contains no PNG files" in capsys.readouterr().err  # and nothing about cores
    assert ended.value.code == 2


def test_a_container_without_permission_to_reset_the_peak_reports_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "status").write_text("VmRSS:\t1000 kB\nVmHWM:\t2000 kB\n")
    (tmp_path / "clear_refs").mkdir()  # opening it for writing fails, as without permission
    monkeypatch.setattr(step, "_STATUS", tmp_path / "status")
    assert step._Peak(torch.device("cpu")).figure() == {}


def test_the_peak_is_relative_to_the_memory_at_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "status").write_text("VmRSS:\t1000 kB\nVmHWM:\t5000 kB\n")
    monkeypatch.setattr(step, "_STATUS", tmp_path / "status")
    assert step._Peak(torch.device("cpu")).figure() == {"peak memory, MB": pytest.approx(4000 * 1.024 / 1e3)}
    assert (tmp_path / "clear_refs").read_text() == "5"


def test_free_memory_of_a_control_group_includes_reclaimable_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(placement, "_CGROUP", tmp_path)
    everything = placement._free_memory()
    (tmp_path / "memory.current").write_text("70000000\n")
    (tmp_path / "memory.stat").write_text("anon 20000000\ninactive_file 30000000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert placement._free_memory() == pytest.approx(everything, rel=0.2)
    (tmp_path / "memory.max").write_text("100000000\n")
    assert placement._free_memory() == 60_000_000
    (tmp_path / "memory.max").write_text("10\n")
    assert placement._free_memory() == 0


def test_cpu_time_counts_this_process() -> None:
    def work() -> int:
        sum(range(200_000))
        return 1

    measured = rate(work, seconds=0.2)
    assert 0 < measured.cpu_seconds <= 1.5 / measured.per_second
