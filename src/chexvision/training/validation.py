"""Validation loss and metrics of an epoch's weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypedDict

from accelerate import Accelerator

from chexvision.data.dataset import Split
from chexvision.errors import ChexError
from chexvision.inference.predict_split import as_predictions, predict_split
from chexvision.metrics.measure import measure
from chexvision.metrics.records import SplitMetrics
from chexvision.models.classifier import CheXVision
from chexvision.training.history import score
from chexvision.training.loss import DualHeadLoss


class Figures(TypedDict):
    """The part of an epoch's record that validation measures."""

    validation_loss: float
    macro_auroc: float | None
    auroc: dict[str, float | None]
    binary_auroc: float | None
    binary_f1: float


@dataclass(frozen=True, slots=True)
class Validation:
    """A network's loss and metrics on the validation split."""

    loss: float
    metrics: SplitMetrics

    @property
    def score(self) -> float:
        """The value by which epochs are compared."""
        return score(self.metrics.macro_auroc, self.loss)

    def figures(self) -> Figures:
        """The fields of an epoch's record."""
        return Figures(
            validation_loss=self.loss,
            macro_auroc=self.metrics.macro_auroc,
            auroc={finding: of["auroc"].value for finding, of in self.metrics.findings.items()},
            binary_auroc=self.metrics.binary_auroc,
            binary_f1=self.metrics.binary_f1,
        )


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
    return Validation(mean_loss, measure(as_predictions(split, probabilities), fewest=1))
