"""A command that is killed once it has written some results: `python -m tests.predict.killed_command N predict …`."""

from __future__ import annotations

import os
import signal
import sys

from chexvision.cli import main
from chexvision.predict.journal import Journal
from chexvision.predict.result import Result
from tests.predict import tiny_model as tiny_model  # its backbone is registered by the import


def kill_after(results: int) -> None:
    """Make the next journal of this process kill it with SIGKILL after this many results."""
    add = Journal.add
    left = results

    def add_and_kill(self: Journal, result: Result) -> None:
        nonlocal left
        add(self, result)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    Journal.add = add_and_kill  # type: ignore[method-assign]


if __name__ == "__main__":
    kill_after(int(sys.argv[1]))
    main(sys.argv[2:])
