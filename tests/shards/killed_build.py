"""A build that is killed once it has recorded some shards: `python -m tests.shards.killed_build N shards build …`."""

from __future__ import annotations

import sys

from chexvision.cli import main
from chexvision.shards.planned import make
from tests.self_killing import kill_after

if __name__ == "__main__":
    kill_after(make, "write_record", int(sys.argv[1]))
    main(sys.argv[2:])
