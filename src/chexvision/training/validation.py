"""Validation loss and metrics of an epoch's weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

from accelerate import Accelerator

from chexvision.data.dataset import Split
from chexvision.errors import ChexError
from chexvision.inference.labeled import labeled
from chexvision.inference.predict_split import predict_split
from chexvision.metrics.measure import measure
from chexvision.metrics.records import SplitMetrics
from chexvision.models.classifier import CheXVision
from chexvision.training.history import score
from chexvision.training.loss import DualHeadLoss


@dataclass(frozen=True, slots=True)
class Validation:
    """A network's loss and metrics on the validation split."""

    loss: float
    metrics: SplitMetrics

    @property
    def score(self) -> float:
        """The value by which epochs are compared."""
        return score(self.metrics.macro_auroc, self.loss)


def validate(
    network: CheXVision, split: Split, accelerator: Accelerator, batch_size: int, loss: DualHeadLoss
) -> Validation:
    """Measure `network` on `split`, each image exactly once over all processes.

    Raises:
        ChexError: the loss is not a number.
    """
    network.eval()
    probabilities, mean_loss = predict_split(network, split, accelerator, batch_size, loss)
    if not math.isfinite(mean_loss):
        raise ChexError(
            f"the validation loss is {mean_loss}: lower the learning rate (training.phases.N.lr) or compute with "
            "--set training.precision=fp32"
        )
    return Validation(mean_loss, measure(labeled(split.rows, probabilities), fewest=1))
