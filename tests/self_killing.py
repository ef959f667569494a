"""A process that kills itself at a known point, so that no test has to be faster than it."""

from __future__ import annotations

import os
import signal
from typing import Any


def kill_after(owner: Any, name: str, calls: int) -> None:
    """Make this process kill itself with SIGKILL after so many calls of the function `name` of `owner`."""
    function, left = getattr(owner, name), calls

    def call_and_kill(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        found = function(*arguments, **options)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, name, call_and_kill)
