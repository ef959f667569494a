"""The sums of an epoch, on the device, so that no step waits to read them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from chexvision.data.loader import MicroBatch


class EpochSums:
    """Sums over the epoch so far, of this process.

    Args:
        device: where the steps run.

    Attributes:
        loss: float[], over images.
        grad_norm: float[], over steps, before clipping.
        seconds: spent on steps.
        waited: seconds of these spent waiting for the next batch.
    """

    def __init__(self, device: torch.device) -> None:
        self.loss = torch.zeros((), device=device)
        self.grad_norm = torch.zeros((), device=device)
        self.seconds = 0.0
        self.waited = 0.0

    def add_norm(self, norm: Tensor) -> None:
        """Add a step's gradient norm; a step that overflowed in fp16, and was skipped, adds nothing."""
        self.grad_norm += torch.nan_to_num(norm, nan=0.0, posinf=0.0)

    def timed(self, batches: Iterator[MicroBatch]) -> Iterator[MicroBatch]:
        """`batches`, counting the time until each is ready."""
        while True:
            asked = time.monotonic()
            batch = next(batches, None)
            self.waited += time.monotonic() - asked
            if batch is None:
                return
            yield batch

    def wait(self) -> None:
        """Wait until the device has done all steps."""
        self.loss.item()
