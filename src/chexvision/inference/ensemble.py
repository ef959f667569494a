"""Several models as one: their probabilities averaged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chexvision.errors import UsageError
from chexvision.metrics.calibration import SMALLEST, logit, sigmoid
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.ranking import Floats


def average(members: Sequence[Predictions], weights: Sequence[float]) -> Predictions:
    """The members' weighted mean; all of the same images in the same order, weights summing to 1."""
    mean = sum(weight * member.probabilities for member, weight in zip(members, weights, strict=True))
    return members[0].with_probabilities(np.asarray(mean, np.float64))


def fit_weights(members: Sequence[Predictions]) -> list[float]:
    """The weights, none negative and summing to 1, whose mean ranks and separates the labels best.

    They are those of highest likelihood once the mean is calibrated, with a slope and an intercept of its logit by
    output. Without these a member's calibration would decide: one whose probabilities are right on average outweighs
    one that knows more but was trained with `pos_weight`. What is calibrated in the end is the mean under the weights
    found, by `choose_operating_points`.

    Args:
        members: raw predictions of images that the weights will not be applied to, as they are averaged.

    Raises:
        UsageError: no output has images of both kinds.
    """
    from scipy.optimize import minimize

    loss = _CalibratedLoss(members)
    count = len(members)
    lines = 2 * loss.outputs
    found = minimize(
        loss,
        np.r_[np.full(count, 1 / count), np.zeros(lines)],
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * count + [(-3, 3), (-15, 15)] * loss.outputs,
        constraints={
            "type": "eq",
            "fun": lambda x: x[:count].sum() - 1,
            "jac": lambda x: np.r_[np.ones(count), np.zeros(lines)],
        },
        options={"ftol": 1e-9, "maxiter": 300},
    )
    weights = np.clip(found.x[:count], 0, None)
    return [float(weight) for weight in weights / weights.sum()]


class _CalibratedLoss:
    """Mean negative log likelihood of the known labels under the calibrated weighted mean, and its gradient.

    The argument holds the members' weights, then the logarithm of a slope and an intercept by output.
    """

    def __init__(self, members: Sequence[Predictions]) -> None:
        targets = members[0].targets
        usable = [i for i in range(targets.shape[1]) if {0.0, 1.0} <= set(np.unique(targets[:, i]).tolist())]
        if not usable:
            raise UsageError("weights cannot be fitted: no finding has images with and without it")
        self.outputs = len(usable)
        rows, self._output = np.nonzero(~np.isnan(targets[:, usable]))
        self._targets = targets[:, usable][rows, self._output]
        self._members = np.stack([member.probabilities[:, usable][rows, self._output] for member in members])

    def __call__(self, x: Floats) -> tuple[float, Floats]:
        count = len(self._members)
        slope, intercept = np.exp(x[count::2]), x[count + 1 :: 2]
        mean = np.clip(x[:count] @ self._members, SMALLEST, 1 - SMALLEST)
        logits = logit(mean)
        z = slope[self._output] * logits + intercept[self._output]
        error = sigmoid(z) - self._targets
        of_lines = np.empty(2 * self.outputs)
        of_lines[::2] = np.bincount(self._output, error * logits, self.outputs) * slope
        of_lines[1::2] = np.bincount(self._output, error, self.outputs)
        of_weights = self._members @ (error * slope[self._output] / (mean * (1 - mean)))
        value = np.mean(np.logaddexp(0, z) - self._targets * z)
        return float(value), np.r_[of_weights, of_lines] / len(z)
