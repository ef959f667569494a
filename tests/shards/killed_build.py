"""A build that is killed once it has recorded some shards: `python -m tests.shards.killed_build N shards build …`."""

from __future__ import annotations

import os
import signal
import sys

from chexvision.cli import main
from chexvision.shards.planned import make
from chexvision.shards.planned.ledger import Built, write_record
from chexvision.shards.planned.outputs import Output


def kill_after(shards: int) -> None:
    """Make this process kill itself with SIGKILL after it has recorded this many shards."""
    left = shards

    def record_and_kill(output: Output, built: Built) -> None:
        nonlocal left
        write_record(output, built)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    make.write_record = record_and_kill  # type: ignore[attr-defined]


if __name__ == "__main__":
    kill_after(int(sys.argv[1]))
    main(sys.argv[2:])
