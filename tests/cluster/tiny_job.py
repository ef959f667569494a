"""`chexvision train` with the network of the tests, which workers on a cluster know as well."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import tests.training.runs  # noqa: F401 - which adds the network
from chexvision.cli.train import run_job

if TYPE_CHECKING:
    from chexvision.runs.session import Session
    from chexvision.training.run import TrainingOutcome
    from chexvision.training.training_session import TrainingJob

HOLD = "hold"  # while this file is in the folder RAY_TMPDIR, a run waits
_SAVES = 25  # after this many savings, in the third epoch of those that save at each of ten steps


def run_tiny_job(
    job: TrainingJob,
    on_session: Callable[[Session], None] = lambda session: None,
    on_saved: Callable[[], None] = lambda: None,
) -> TrainingOutcome:
    """`run_job`, pickled by the name of this module, which workers then import.

    To Ray, nodes of one address are one machine; here each worker has one of its own.
    """
    if "NODE_RANK" in os.environ:
        os.environ["NODE_RANK"] = os.environ["RANK"]
    hold = Path(os.environ.get("RAY_TMPDIR", os.devnull)) / HOLD
    saves = itertools.count(1)

    def saved() -> None:
        on_saved()
        held = next(saves) >= _SAVES
        while held and hold.exists():
            time.sleep(0.02)

    return run_job(job, on_session, saved)
