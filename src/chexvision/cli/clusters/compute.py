"""Where an evaluation is computed: on this machine, or on a cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from chexvision.cli.models import Precision
    from chexvision.evaluation.computing import Compute


def computing(
    on: Literal["here", "ray"], out: Path, address: str, workers: int | None, precision: Precision
) -> AbstractContextManager[Compute]:
    """The `Compute` of an evaluation that is written to `out`."""
    if on == "ray":
        from chexvision.cluster.ray_evaluate import computing_on_ray

        return computing_on_ray(out, address, workers, precision)
    from chexvision.evaluation.computing import OnThisMachine
    from chexvision.training.hardware import start_accelerator

    return nullcontext(OnThisMachine(start_accelerator(precision)))
