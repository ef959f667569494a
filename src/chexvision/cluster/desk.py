"""Where a cluster's workers meet the command that started them: what they print, and whether they are to stop."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any

_DELIVERY_SECONDS = 30.0  # at most that the end of a worker waits for its last lines to arrive


class Desk:
    """An actor on the machine of the command. Its methods are called by ``desk.METHOD.remote(…)``."""

    def __init__(self) -> None:
        self._printed: list[tuple[str, str]] = []
        self._stop: str | None = None
        self._saves = 0

    @classmethod
    def start(cls) -> Any:
        """Start the actor next to this process."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return ray.remote(cls).options(num_cpus=0, scheduling_strategy=here).remote()

    def write(self, stream: str, text: str) -> None:
        """Show `text` on "stdout" or "stderr" of the command."""
        self._printed.append((stream, text))

    def taken(self) -> list[tuple[str, str]]:
        """What was written since the last call."""
        printed, self._printed = self._printed, []
        return printed

    def request_stop(self, note: str) -> None:
        """Have the workers save their state and end; `note` says why."""
        self._stop = note

    def stop_requested(self) -> str | None:
        """Why the workers are to end; None while they are not."""
        return self._stop

    def count_save(self) -> None:
        """A state was saved."""
        self._saves += 1

    def saves(self) -> int:
        """How often a state was saved."""
        return self._saves


class _Stream(io.TextIOBase):
    """Passes lines, and what is flushed, on to a desk.

    Attributes:
        last: what the desk answers the last of them with; it has received all of them then.
    """

    def __init__(self, desk: Any, name: str, *, terminal: bool) -> None:
        self._desk = desk
        self._name = name
        self._terminal = terminal
        self._waiting = ""
        self.last: Any = None

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._terminal

    def write(self, text: str) -> int:
        self._waiting += text
        if "\n" in text:
            self.flush()
        return len(text)

    def flush(self) -> None:
        if self._waiting:
            text, self._waiting = self._waiting, ""
            self.last = self._desk.write.remote(self._name, text)


@contextmanager
def show_on(desk: Any | None, terminal: int | None) -> Iterator[None]:
    """Have what this process prints shown by `desk`; without one it stays in the worker's log.

    Args:
        desk: of the command.
        terminal: the width of the terminal that the command writes to; None for a file.
    """
    if desk is None:
        yield
        return
    if terminal is not None:
        os.environ["COLUMNS"] = str(terminal)
    streams = [_Stream(desk, name, terminal=terminal is not None) for name in ("stdout", "stderr")]
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(streams[0]))
        stack.enter_context(redirect_stderr(streams[1]))
        try:
            yield
        finally:
            _deliver(streams)


def _deliver(streams: list[_Stream]) -> None:
    """Return when the desk has what was written: Ray ends a worker that has returned, whatever it has yet to send."""
    import ray

    for stream in streams:
        stream.flush()
    try:
        ray.get([stream.last for stream in streams if stream.last is not None], timeout=_DELIVERY_SECONDS)
    except ray.exceptions.RayError:
        return  # a desk that is gone is that of a command that has ended: there is nobody to show it to
