"""Calibration of probabilities: fitted on one split, applied to another."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from chexvision.metrics.predictions import Predictions
from chexvision.metrics.ranking import Floats
from chexvision.metrics.records import Record
from chexvision.metrics.thresholds import ChosenOn

FILE = "calibration.json"
Method = Literal["temperature", "platt", "isotonic"]
DEFAULT_METHOD: Method = "platt"
Probability = Annotated[float, Field(ge=0, le=1)]
SMALLEST = 1e-7  # probabilities are kept that far from 0 and 1 where logits are taken


class Curve(Record):
    """How one output's probabilities are changed: on the logit, slope · logit + intercept, or along knots.

    Either way the order of images is kept: the slope is positive, and the knots rise.
    """

    slope: Annotated[float, Field(gt=0, le=1e3)] | None = None
    intercept: Annotated[float, Field(ge=-1e3, le=1e3)] | None = None
    x: tuple[Probability, ...] = ()
    y: tuple[Probability, ...] = ()

    @model_validator(mode="after")
    def _keeps_the_order(self) -> Curve:
        line = (self.slope is not None) + (self.intercept is not None)
        if line not in (0, 2) or bool(line) == bool(self.x) or len(self.x) != len(self.y):
            raise ValueError("expected slope and intercept, or knots x and y of one length")
        if any(a > b for knots in (self.x, self.y) for a, b in pairwise(knots)):
            raise ValueError("the knots do not increase")
        return self

    def apply(self, probabilities: Floats) -> Floats:
        """float[N] in [0, 1] to float64[N] in [0, 1]; the order of images is kept."""
        if self.slope is not None and self.intercept is not None:
            return sigmoid(self.slope * logit(probabilities) + self.intercept)
        return np.interp(probabilities, self.x, self.y)


class Calibration(Record):
    """``calibration.json``.

    Args:
        method: "temperature" (the logit divided by a number), "platt" (and shifted) or "isotonic".
        chosen_on: the images it was fitted on.
        curves: by name; null where the images held only one kind, which leaves probabilities as they are.
        prevalences: by name, among these images' known labels; empty in files of earlier versions.
    """

    method: Method
    chosen_on: ChosenOn
    curves: dict[str, Curve | None]
    prevalences: dict[str, Probability] = Field(default_factory=dict)

    @property
    def described(self) -> str:
        """In words, for tables."""
        return f"{self.method} on {self.chosen_on.split}"

    def apply(self, names: tuple[str, ...], probabilities: Floats) -> Floats:
        """Calibrate float[N, K], whose columns are `names`."""
        calibrated = np.array(probabilities, np.float64)
        for i, name in enumerate(names):
            curve = self.curves.get(name)
            if curve is not None:
                calibrated[:, i] = curve.apply(calibrated[:, i])
        return calibrated


def fit_calibration(predictions: Predictions, method: Method, chosen_on: ChosenOn) -> Calibration:
    """Fit each output by itself, leaving unknown labels out.

    A temperature cannot undo the shift that `pos_weight` gives to rare findings; "platt" can. "isotonic" follows
    any shape, and the noise of rare findings with it.
    """
    curves: dict[str, Curve | None] = {}
    prevalences: dict[str, float] = {}
    for i, name in enumerate(predictions.names):
        target = predictions.targets[:, i]
        known = ~np.isnan(target)
        if known.any():
            prevalences[name] = float(target[known].mean())
        both = 0 < prevalences.get(name, 0) < 1
        curves[name] = _fit(predictions.probabilities[known, i], target[known], method) if both else None
    return Calibration(method=method, chosen_on=chosen_on, curves=curves, prevalences=prevalences)


def _fit(probabilities: Floats, targets: Floats, method: Method) -> Curve:
    if method == "isotonic":
        from sklearn.isotonic import IsotonicRegression

        fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(probabilities, targets)
        return Curve(x=tuple(fitted.X_thresholds_.tolist()), y=tuple(fitted.y_thresholds_.tolist()))
    slope, intercept = _fit_line(logit(probabilities), targets, shift=method == "platt")
    return Curve(slope=slope, intercept=intercept)


def _fit_line(logits: Floats, targets: Floats, shift: bool) -> tuple[float, float]:
    """Slope and intercept that maximise the likelihood; the slope is positive, so the order stays."""
    from scipy.optimize import minimize

    def loss(parameters: Floats) -> tuple[float, Floats]:
        slope = np.exp(parameters[0])
        z = slope * logits + (parameters[1] if shift else 0.0)
        error = sigmoid(z) - targets
        # A weak pull towards the identity keeps separable classes finite.
        value = np.mean(np.logaddexp(0, z) - targets * z) + 1e-6 * float(parameters @ parameters)
        gradient = np.array([np.mean(error * logits) * slope, np.mean(error)])[: len(parameters)]
        return float(value), gradient + 2e-6 * parameters

    found = minimize(
        loss,
        np.zeros(2 if shift else 1),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-5, 5), (-20, 20)][: 2 if shift else 1],
    )
    return float(np.exp(found.x[0])), float(found.x[1]) if shift else 0.0


def logit(probabilities: Floats) -> Floats:
    """Logits of float[...] in [0, 1], finite because probabilities are kept off 0 and 1."""
    p = np.clip(probabilities, SMALLEST, 1 - SMALLEST)
    return np.log(p) - np.log1p(-p)


def sigmoid(z: Floats) -> Floats:
    """Probabilities of logits, without overflow."""
    small = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0, 1, small) / (1 + small), np.float64)
