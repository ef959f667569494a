"""The training process's side of tracking: records go into a pipe that is never waited for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chexvision.foreign import printable

FOLDER = "tracking"  # in a run's folder
# Records that wait while the pipe (64 KiB on Linux, some 100 epochs) is full; the oldest make room for newer ones.
MOST_WAITING = 1000
# How long the end of a run may wait for its last records. Importing a library takes 2 to 5 s, closing it 1 to 2 s.
CLOSE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class SinkKind:
    """A value of ``training.track``.

    Args:
        target: ``module:class`` of the sink.
        package: the distribution that it needs.
        install: what to give to pip.
    """

    target: str
    package: str
    install: str


SINKS = {
    "trackio": SinkKind("chexvision.tracking.sinks:TrackioSink", "trackio", "'chexvision[track]'"),
    "tensorboard": SinkKind("chexvision.tracking.sinks:TensorBoardSink", "tensorboard", "'chexvision[track]'"),
    "wandb": SinkKind("chexvision.tracking.sinks:WandbSink", "wandb", "wandb"),
}


class Tracker:
    """Sends records to a process that owns the tracking library; a context that ends it.

    No method raises or waits for the library, except `close`, which waits for at most `CLOSE_SECONDS`. What is lost
    on the way is counted in one warning.

    Args:
        sink: a key of `SINKS`, or "none".
        folder: where the library writes.
        run: what the tracked run is named, and its configuration: JSON.
    """

    def __init__(self, sink: str, folder: Path, run: Mapping[str, Any]) -> None:
        self._sink = sink
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._part = _line(run)  # of the line that is being written; the first is always the run
        self._sent = self._tracked = 0
        self._reason = b""
        self._broken = False
        if sink == "none":
            return
        kind = SINKS[sink]
        try:
            metadata.distribution(kind.package)
        except metadata.PackageNotFoundError:
            _warn(f"training.track={sink} needs a package; install it with: pip install {kind.install}")
            return
        # -P: a folder named wandb, where training was started, is not the library.
        command = [sys.executable, "-P", "-m", "chexvision.tracking.sink_process", kind.target, str(folder.resolve())]
        try:
            # A session of its own: Ctrl-C is for training, which then ends this process in its own time.
            self._process = subprocess.Popen(
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
        except OSError as error:
            _warn(f"tracking with {sink} could not be started: {error.strerror or error}")
            return
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101 - both are pipes
        self._records, self._status = self._process.stdin.fileno(), self._process.stdout.fileno()
        for end in (self._records, self._status):
            os.set_blocking(end, False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, step: int, values: Mapping[str, float]) -> None:
        """Send the values of an optimization step; steps increase from call to call."""
        if self._process is None:
            return
        self._sent += 1
        if self._broken:
            return
        self._waiting.append(_line({"step": step, "values": dict(values)}))
        if not self._write():
            self._broken = True
            self._read()
            _warn(f"tracking with {self._sink} ended before step {step}: {self._why()}; training goes on without it")

    def close(self, seconds: float | None = None) -> None:
        """Give the process so many seconds to track what it was sent, then kill it; `CLOSE_SECONDS` by default."""
        process, self._process = self._process, None
        if process is None:
            return
        deadline = time.monotonic() + (CLOSE_SECONDS if seconds is None else seconds)
        while (self._part or self._waiting) and time.monotonic() < deadline and self._write():
            time.sleep(0.01)
        _closed(process.stdin)
        in_time = _ended(process, deadline - time.monotonic())
        if not in_time:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)  # its children as well
            _ended(process, 1.0)  # not for ever: one that hangs in a file system does not die either
        self._read()
        _closed(process.stdout)
        lost = self._sent - self._tracked
        if not self._broken and (lost or process.returncode):
            why = self._why() if in_time else "it did not end in time and was killed"
            _warn(f"tracking with {self._sink} lost {lost} of {self._sent} records: {why}")

    def _write(self) -> bool:
        """Write what fits into the pipe; False if nobody reads it any more."""
        self._read()
        try:
            while self._part or self._waiting:
                self._part = self._part or self._waiting.popleft()
                self._part = self._part[os.write(self._records, self._part) :]
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True

    def _read(self) -> None:
        """Read which records were tracked, and at the end of the process why it failed."""
        with suppress(OSError):  # most often: there is nothing to read
            while data := os.read(self._status, 65536):
                tracked, _, reason = data.partition(b"!") if not self._reason else (b"", b"", data)
                self._tracked += len(tracked)
                self._reason = (self._reason + reason)[:1000]

    def _why(self) -> str:
        return printable(self._reason.decode(errors="replace")) or "its process was killed"


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _closed(pipe: Any) -> None:
    with suppress(OSError):
        pipe.close()


def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        return False
    return True


def _warn(message: str) -> None:
    print(f"WARNING: {message}", file=sys.stderr, flush=True)
