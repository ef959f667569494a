"""A command on a cluster that gets a signal after some finished tasks.

Usage: ``python -m tests.cluster.cut_command SIGKILL 2 predict …``. A test cannot be late to send it.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from chexvision.cli import main
from chexvision.cluster import ray_build, ray_predict


def cut_after(tasks: int, number: signal.Signals) -> None:
    """Send this process a signal when the last of so many tasks is finished."""
    left = tasks

    def count(module: Any, name: str) -> None:
        finish = getattr(module, name)

        def finish_and_count(*arguments: Any) -> None:
            nonlocal left
            finish(*arguments)
            left -= 1
            if left == 0:
                os.kill(os.getpid(), number)

        setattr(module, name, finish_and_count)

    count(ray_predict, "_keep")
    count(ray_build, "_check_shared")


if __name__ == "__main__":
    cut_after(int(sys.argv[2]), signal.Signals[sys.argv[1]])
    main(sys.argv[3:])
