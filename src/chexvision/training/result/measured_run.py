"""What the best epoch's weights predict of validation and test, and how well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load
from torch import Tensor

from chexvision.artifact.metrics_file import Evaluation
from chexvision.data.dataset import Split
from chexvision.evaluation.attributes import conditions_of, groups_of
from chexvision.evaluation.parts import with_parts
from chexvision.evaluation.protocol import evaluate_trained
from chexvision.evaluation.split_check import check_of
from chexvision.explain.card_example import example_overlay
from chexvision.inference.labeled import labeled
from chexvision.inference.predict_split import predict_with_features
from chexvision.metrics.operating_points import OperatingPoints
from chexvision.metrics.predictions import Predictions
from chexvision.models.classifier import CheXVision
from chexvision.predict.input_check import InputCheck
from chexvision.report.card_parts import OVERLAY
from chexvision.report.charts import curve_sheets
from chexvision.training.history import kept_epoch
from chexvision.training.loop import Training
from chexvision.training.processes import from_first
from chexvision.training.start.prepared import Prepared
from chexvision.training.training_session import BEST_FILE


@dataclass(frozen=True, slots=True)
class Predicted:
    """What the best epoch's weights compute, by split.

    Args:
        predictions: of "validation" and, where there is one, "test".
        features: float32[N, C] of the same images.
    """

    predictions: dict[str, Predictions]
    features: dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Measured:
    """How good they are.

    Args:
        evaluation: the metrics.
        points: thresholds and calibration.
        check: of inputs that are unlike the training images; None where validation is too small to fit it.
        figures: of the card, by file name.
    """

    evaluation: Evaluation
    points: OperatingPoints
    check: InputCheck | None
    figures: dict[str, str | bytes]


def predict_best(training: Training, splits: dict[str, Split], batch_size: int) -> Predicted:
    """Predict validation and test by the best epoch's weights, which the model holds afterwards.

    Args:
        training: which has ended; all of its processes call this.
        splits: of the run.
        batch_size: images per forward pass.
    """
    model, accelerator = training.model, training.accelerator
    best = from_first(training.process, (training.work / BEST_FILE).read_bytes)
    model.load_state_dict(load(best or b""))
    model.eval()
    predictions: dict[str, Predictions] = {}
    features: dict[str, NDArray[np.float32]] = {}
    for name in ("validation", "test"):
        if name in splits:
            probabilities, features[name] = predict_with_features(model, splits[name], accelerator, batch_size)
            predictions[name] = labeled(splits[name].rows, probabilities)
    return Predicted(predictions, features)


def measure_best(training: Training, prepared: Prepared, predicted: Predicted) -> Measured:
    """Measure what was predicted, and draw the figures of the card.

    Args:
        training: which has ended.
        prepared: its data.
        predicted: by its best weights.
    """
    recipe, found, splits = training.recipe, prepared.data, prepared.splits
    groups = groups_of(splits["test"]) if "test" in splits else None
    conditions = conditions_of(
        found.datasets[0].source,
        "test",
        found.record,
        training.accelerator.mixed_precision,
        image_size=recipe.data.image_size,
        epoch=kept_epoch(training.history, recipe.training).epoch,
    ).model_copy(update={"dataset": found.name, "dataset_identity": found.identity, "synthetic": found.synthetic})
    evaluation, points = evaluate_trained(recipe.name, predicted.predictions, groups, conditions)
    evaluation = with_parts(evaluation, points, splits, predicted.predictions)
    check, result = check_of(splits, predicted.features)
    evaluation = evaluation.model_copy(update={"input_check": result})
    figures = _figures(training.model, splits, predicted.predictions, points, evaluation)
    return Measured(evaluation, points, check, figures)


def _figures(
    model: CheXVision,
    splits: dict[str, Split],
    predictions: dict[str, Predictions],
    points: OperatingPoints,
    metrics: Evaluation,
) -> dict[str, str | bytes]:
    """The figures of the card by file name; with an overlay only where the images are synthetic."""
    # Where validation itself is measured, nothing calibrates it.
    applied = OperatingPoints() if metrics.split == "validation" else points
    measured = predictions[metrics.split]
    figures: dict[str, str | bytes] = {**curve_sheets(measured, applied, metrics.metrics)}
    images = splits[metrics.split].images
    if metrics.synthetic and not isinstance(images, Tensor):
        overlay = example_overlay(model, applied.calibrated(measured), images)
        figures |= {OVERLAY: overlay} if overlay is not None else {}
    return figures
