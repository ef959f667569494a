"""A command that is killed once it has written some results: `python -m tests.predict.killed_command N predict …`."""

from __future__ import annotations

import sys

from chexvision.cli import main
from chexvision.predict.journal import Journal
from tests.predict import tiny_model as tiny_model  # its backbone is registered by the import
from tests.self_killing import kill_after

if __name__ == "__main__":
    kill_after(Journal, "add", int(sys.argv[1]))
    main(sys.argv[2:])
