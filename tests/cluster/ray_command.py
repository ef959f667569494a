"""The `chexvision` command with the network of the tests."""

from __future__ import annotations

import chexvision.cli
import chexvision.cli.train
from tests.cluster.tiny_job import run_tiny_job

if __name__ == "__main__":
    chexvision.cli.train.run_job = run_tiny_job
    chexvision.cli.main()
