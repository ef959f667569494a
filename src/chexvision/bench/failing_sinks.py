"""Sinks that do what a tracking library must never do to training. `bench track` and the tests use them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from chexvision.tracking.sinks import TrackedRun


class Counting:
    """Tracks nothing and never fails; the others differ in `log`."""

    def __init__(self, folder: Path, run: TrackedRun) -> None:
        self.last_step = -1

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Hanging(Counting):
    """Hangs for ever, with the interpreter's lock held."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Hang."""
        ctypes.PyDLL(None).pause()


class Raising(Counting):
    """Raises an error whose text has two lines."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Raise."""
        raise RuntimeError(f"no connection\nwith {os.environ.get('HF_TOKEN', 'nothing')}")


class Killed(Counting):
    """Is ended by SIGKILL, as by a machine that is out of memory."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """End."""
        os.kill(os.getpid(), signal.SIGKILL)


class FullDisk(Counting):
    """Writes to a disk that is full."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Fail as a full disk does; /dev/full is Linux's."""
        with Path("/dev/full").open("w") as file:
            file.write("0")


class Flooding(Counting):
    """Prints a megabyte for each record, and reads what is typed."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Print, and ask."""
        for stream in (sys.stdout, sys.stderr):
            print("x" * 500_000, file=stream, flush=True)
        sys.stdin.read()


FAILING = {
    "hangs": Hanging,
    "raises": Raising,
    "is killed": Killed,
    "full disk": FullDisk,
    "prints a flood": Flooding,
}
