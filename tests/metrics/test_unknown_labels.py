"""Predictions for unknown labels change no metric, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from chexvision.inference.ensemble import fit_weights
from chexvision.metrics.calibration import Method, fit_calibration
from chexvision.metrics.compare import compare
from chexvision.metrics.measure import measure
from chexvision.metrics.operating_points import choose_operating_points
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.subgroups import measure_subgroups
from chexvision.metrics.thresholds import ChosenOn, choose_thresholds
from tests.evaluation.conftest import METHOD, random_predictions

NAMES = ("Opacity", "Fracture", "Abnormal")
CHOSEN_ON = ChosenOn(dataset="d", split="validation", images=1, images_sha256="0")


def masked(seed: int) -> Predictions:
    """400 images, three of ten labels unknown."""
    found = random_predictions(seed=seed, names=NAMES)
    unknown = np.random.default_rng(seed + 50).random(found.targets.shape) < 0.3
    return replace(found, targets=np.where(unknown, np.nan, found.targets))


def altered(predictions: Predictions) -> Predictions:
    """The same with other probabilities where the label is unknown."""
    other = np.random.default_rng(99).random(predictions.probabilities.shape)
    return predictions.with_probabilities(np.where(np.isnan(predictions.targets), other, predictions.probabilities))


def test_altered_predictions_differ_in_many_probabilities() -> None:
    first = masked(0)
    assert 200 < int((altered(first).probabilities != first.probabilities).sum()) < 500


def test_metrics_and_intervals() -> None:
    first, second = (measure(of, method=METHOD) for of in (masked(0), altered(masked(0))))
    assert first == second
    assert first.findings["Opacity"].unknown > 50 and first.findings["Opacity"]["auroc"].value is not None


@pytest.mark.parametrize("rule", ["f1", "youden", "sensitivity=0.9", "specificity=0.9"])
def test_thresholds(rule: str) -> None:
    assert choose_thresholds(masked(0), rule, CHOSEN_ON) == choose_thresholds(altered(masked(0)), rule, CHOSEN_ON)


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_calibration(method: Method) -> None:
    assert fit_calibration(masked(0), method, CHOSEN_ON) == fit_calibration(altered(masked(0)), method, CHOSEN_ON)


@pytest.mark.parametrize("calibration", ["platt", "none"])
def test_operating_points_measured_on_another_split(calibration: Literal["platt", "none"]) -> None:
    sets = (masked(0), altered(masked(0)))
    chosen = [choose_operating_points(of, "d", "validation", "f1", calibration) for of in sets]
    assert chosen[0] == chosen[1]
    first, second = (chosen[0].measure(of, "test", METHOD) for of in (masked(1), altered(masked(1))))
    assert first == second  # with the correction for another prevalence
    assert (first.prior_shift is not None) == (calibration == "platt")


def test_comparison_of_two_models() -> None:
    other = masked(0).with_probabilities(random_predictions(seed=3, names=NAMES).probabilities)
    first = compare(masked(0), other, METHOD, ("a", "b"))
    assert first == compare(altered(masked(0)), altered(other), METHOD, ("a", "b"))


def test_subgroups() -> None:
    sex = np.array(["F", "M"])[np.arange(400) % 2]
    first, second = (measure_subgroups(of, {"sex": sex}, METHOD) for of in (masked(0), altered(masked(0))))
    assert first == second
    assert len(first) == 1


def test_weights_of_an_ensemble() -> None:
    other = masked(0).with_probabilities(random_predictions(seed=3, names=NAMES).probabilities)
    assert fit_weights([masked(0), other]) == fit_weights([altered(masked(0)), altered(other)])
