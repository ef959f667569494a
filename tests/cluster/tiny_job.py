"""`chexvision train` with the network of the tests, which workers on a cluster know as well."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import tests.training.runs  # noqa: F401 - which adds the network
from chexvision.cli.train import run_job

if TYPE_CHECKING:
    from chexvision.runs.session import Session
    from chexvision.training.run import TrainingOutcome
    from chexvision.training.training_session import TrainingJob


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
    return run_job(job, on_session, on_saved)
