"""Several models as one: their probabilities averaged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chexvision.evaluation.predictions import Predictions
from chexvision.evaluation.ranking import Floats

_SMALLEST = 1e-7


def average(members: Sequence[Predictions], weights: Sequence[float]) -> Predictions:
    """The members' weighted mean; all of the same images in the same order, weights summing to 1."""
    mean = sum(weight * member.probabilities for member, weight in zip(members, weights, strict=True))
    return members[0].with_probabilities(np.asarray(mean, np.float64))


def fit_weights(members: Sequence[Predictions]) -> list[float]:
    """The weights, none negative and summing to 1, whose mean has the highest likelihood of the labels.

    Args:
        members: predictions of images that the weights will not be applied to.
    """
    from scipy.optimize import minimize

    targets = members[0].targets
    known = ~np.isnan(targets)
    positive = targets[known] == 1
    outputs = np.stack([member.probabilities[known] for member in members])

    def loss(weights: Floats) -> tuple[float, Floats]:
        mean = np.clip(weights @ outputs, _SMALLEST, 1 - _SMALLEST)
        of_label = np.where(positive, mean, 1 - mean)
        gradient = outputs @ (np.where(positive, -1, 1) / of_label)
        return float(-np.mean(np.log(of_label))), gradient / len(mean)

    count = len(members)
    found = minimize(
        loss,
        np.full(count, 1 / count),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * count,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": np.ones_like},
    )
    weights = np.clip(found.x, 0, None)
    return [float(weight) for weight in weights / weights.sum()]
