"""Validation loss and metrics of an epoch's weights, and which weights are the better ones."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from accelerate import Accelerator

from chexvision.config.recipe import Monitor, TrainingConfig
from chexvision.data.dataset import Split
from chexvision.errors import ChexError
from chexvision.inference.labeled import labeled, labeled_parts
from chexvision.inference.predict_split import predict_split
from chexvision.metrics.compare import macro_shares, standard_error
from chexvision.metrics.measure import measure
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.ranking import Floats
from chexvision.metrics.records import SplitMetrics
from chexvision.models.classifier import CheXVision
from chexvision.training.epoch_sums import EpochSums
from chexvision.training.hardware import peak_memory_mb
from chexvision.training.history import DatasetScores, EpochRecord, MixtureScores, Weights, score
from chexvision.training.loss import DualHeadLoss


@dataclass(frozen=True, slots=True)
class Validation:
    """A network's loss and metrics on the validation split.

    Args:
        loss: mean over the images.
        metrics: at probability 0.5, over all images.
        shares: of `macro_shares`; of a mixture, what each image contributes to the error of `macro_auroc`.
        parts: the metrics of each data set of a mixture by its name, over the findings that it labels.
    """

    loss: float
    metrics: SplitMetrics
    shares: Floats | None = None
    parts: Mapping[str, SplitMetrics] = field(default_factory=dict)

    @property
    def macro_auroc(self) -> float | None:
        """Mean AUROC over the findings; of a mixture, the mean of its data sets' that define one."""
        known = [of.macro_auroc for of in self.parts.values() if of.macro_auroc is not None]
        if self.parts:
            return sum(known) / len(known) if known else None
        return self.metrics.macro_auroc

    def score(self, monitor: Monitor) -> float:
        """The value by which epochs are compared."""
        return score(monitor, self.macro_auroc, self.loss)

    @property
    def mixture(self) -> MixtureScores | None:
        """The record of the data sets of a mixture."""
        if not self.parts:
            return None
        return MixtureScores(
            pooled_macro_auroc=self.metrics.macro_auroc,
            datasets={
                name: DatasetScores(
                    images=of.images,
                    macro_auroc=of.macro_auroc,
                    auroc={finding: one["auroc"].value for finding, one in of.findings.items()},
                    binary_auroc=of.binary_auroc,
                )
                for name, of in self.parts.items()
            },
        )

    @property
    def auroc(self) -> dict[str, float | None]:
        """By finding."""
        return {finding: of["auroc"].value for finding, of in self.metrics.findings.items()}


@dataclass(frozen=True, slots=True)
class Validated:
    """What an epoch's weights measured.

    Args:
        trained: the trained weights.
        averaged: their moving average, if there is one.
        weights: which of the two are better.
        seconds: that validation took.
    """

    trained: Validation
    averaged: Validation | None
    weights: Weights
    seconds: float

    @property
    def kept(self) -> Validation:
        """Of the better weights."""
        return self.averaged if self.averaged and self.weights == "averaged" else self.trained


def validate_both(
    trained: CheXVision,
    averaged: CheXVision | None,
    split: Split,
    accelerator: Accelerator,
    batch_size: int,
    loss: DualHeadLoss,
    settings: TrainingConfig,
) -> Validated:
    """Measure the trained weights and, where there is one, their average; of equal ones the trained are kept.

    With `settings.keep_within` the average is kept unless the trained weights are better by more than that.

    Raises:
        ChexError: a loss is not a number.
    """
    began = time.monotonic()
    first = validate(trained, split, accelerator, batch_size, loss)
    second = validate(averaged, split, accelerator, batch_size, loss) if averaged is not None else None
    error = difference_error(first.shares, second.shares, split) if second else None
    margin = settings.tolerance * (error or 0.0)
    averaged_wins = second and second.score(settings.monitor) > first.score(settings.monitor) - margin
    better: Weights = "averaged" if averaged_wins else "trained"
    return Validated(first, second, better, time.monotonic() - began)


def difference_error(first: Floats | None, second: Floats | None, split: Split) -> float | None:
    """The standard error, by patients, of the difference of two macro AUROCs on `split`; None where it is unknown."""
    return None if first is None or second is None else standard_error(second - first, split.rows.patients)


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
    predictions = labeled(split.rows, probabilities)
    metrics = measure(predictions, fewest=1)
    if not split.is_mixture:
        return Validation(mean_loss, metrics, macro_shares(predictions))
    parts = labeled_parts(split, probabilities)
    measured = {name: measure(of, fewest=1) for name, of in parts.items()}
    return Validation(mean_loss, metrics, _mean_shares(split, parts), measured)


def _mean_shares(split: Split, parts: Mapping[str, Predictions]) -> Floats | None:
    """What each image contributes to the error of the mean of the data sets' macro AUROCs: float64[N]."""
    found = [(part, macro_shares(parts[part.name])) for part in split.parts]
    known = [(part, shares) for part, shares in found if shares is not None]
    if not known:
        return None
    mean = np.zeros(len(split))
    for part, shares in known:
        mean[part.begin : part.end] = shares / len(known)
    return mean


def epoch_record(
    measured: Validated,
    sums: EpochSums,
    *,
    epoch: int,
    phase: int,
    train_loss: float,
    difference_error: float | None,
    images: int,
    rates: Sequence[float],
    loss_scale: float | None,
    micro_batch_size: int,
) -> EpochRecord:
    """The record of an epoch of `images`, with a learning rate of `rates` at each step; see there for the others."""
    kept = measured.kept
    return EpochRecord(
        epoch=epoch,
        phase=phase,
        train_loss=train_loss,
        validation_loss=kept.loss,
        macro_auroc=kept.macro_auroc,
        difference_error=difference_error,
        auroc=kept.auroc,
        binary_auroc=kept.metrics.binary_auroc,
        binary_f1=kept.metrics.binary_f1,
        weights=measured.weights,
        trained_macro_auroc=measured.trained.macro_auroc,
        averaged_macro_auroc=measured.averaged.macro_auroc if measured.averaged else None,
        lr_first=rates[0],
        lr_last=rates[-1],
        train_seconds=sums.seconds,
        validation_seconds=measured.seconds,
        train_images_per_second=images / max(sums.seconds, 1e-9),
        waited_seconds=sums.waited,
        grad_norm=float(sums.grad_norm) / len(rates),
        loss_scale=loss_scale,
        micro_batch_size=micro_batch_size,
        peak_memory_mb=peak_memory_mb(sums.loss.device),
        mixture=kept.mixture,
    )
