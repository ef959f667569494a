"""The sums of an epoch, on the device, so that no step waits to read them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from chexvision.data.loader import MicroBatch, Rank


class EpochSums:
    """Sums over the epoch so far, of this process.

    Args:
        device: where the steps run.

    Attributes:
        loss: float[], over images.
        grad_norm: float[], over steps, before clipping.
        seconds: spent on steps that were timed: before an interruption, and of an epoch that ended.
        waited: seconds of these spent waiting for the next batch.
    """

    def __init__(self, device: torch.device) -> None:
        self.loss = torch.zeros((), device=device)
        self.grad_norm = torch.zeros((), device=device)
        self.seconds = 0.0
        self.waited = 0.0
        self._began = time.monotonic()
        self._saved = (0.0, 0.0)  # what the loss began with: of all processes, and of this one

    def resume(
        self, loss_sum: float, loss_sums: Tensor | None, grad_norm_sum: float, seconds: float, rank: Rank
    ) -> None:
        """Continue from the sums of a saved state, whose parts are of as many processes or of others."""
        self.seconds = seconds
        if loss_sums is not None and len(loss_sums) == rank.world:
            own = float(loss_sums[rank.rank])
        else:
            own = loss_sum if rank.rank == 0 else 0.0
        self.loss += own
        self.grad_norm += grad_norm_sum
        self._saved = (loss_sum, own)

    def loss_of_all(self, world: int) -> Tensor:
        """An estimate of the loss over the images of all processes, from those of this one: float[]."""
        if world == 1:
            return self.loss
        of_all, own = self._saved
        return of_all + (self.loss - own) * world

    def begin(self) -> None:
        """Count the time from now on."""
        self._began = time.monotonic()

    @property
    def seconds_so_far(self) -> float:
        """Of the epoch until now."""
        return self.seconds + time.monotonic() - self._began

    def end(self) -> None:
        """Wait until the device has done all steps, and count the time until then."""
        self.loss.item()
        self.seconds = self.seconds_so_far

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
