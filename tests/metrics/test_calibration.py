"""Calibration corrects probabilities, is monotonic, and is fitted on other images."""

from __future__ import annotations

import numpy as np
import pytest

from chexvision.metrics.calibration import Calibration, Curve, Method, fit_calibration
from chexvision.metrics.measure import measure
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.thresholds import ChosenOn
from tests.present import all_present, present

WHERE = ChosenOn(dataset="d", split="validation", images=1, images_sha256="0")


def _miscalibrated(seed: int, slope: float, shift: float) -> Predictions:
    """Calibrated probabilities with scaled and shifted logits."""
    rng = np.random.default_rng(seed)
    honest = 1 / (1 + np.exp(-(rng.normal(size=4000) * 1.5 - 1.5)))
    targets = (rng.random(4000) < honest).astype(float)
    logits = slope * np.log(honest / (1 - honest)) + shift
    names = np.array([f"{i:08d}_{seed:03d}.png" for i in range(4000)])
    return Predictions(("Mass",), names, np.arange(4000), (1 / (1 + np.exp(-logits)))[:, None], targets[:, None])


@pytest.mark.parametrize(("method", "shift"), [("temperature", 0.0), ("platt", 2.0), ("isotonic", 2.0)])
def test_miscalibration_is_corrected_on_other_images(method: Method, shift: float) -> None:
    fitted = fit_calibration(_miscalibrated(0, 2.0, shift), method, WHERE)
    test = _miscalibrated(1, 2.0, shift)
    before = measure(test).findings["Mass"]
    after = measure(test, calibrated=fitted.apply(test.names, test.probabilities)).findings["Mass"]
    assert present(after["ece"].value) < 0.03 < present(before["ece"].value)
    assert present(after["brier"].value) < present(before["brier"].value)
    assert after["auroc"] == before["auroc"]


def test_platt_recovers_the_affine_distortion_of_the_logits() -> None:
    curve = fit_calibration(_miscalibrated(0, 2.0, 1.0), "platt", WHERE).curves["Mass"]
    assert curve is not None
    assert curve.slope == pytest.approx(0.5, rel=0.1)
    assert curve.intercept == pytest.approx(-0.5, abs=0.15)


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_calibration_is_monotonic(method: Method) -> None:
    fitted = fit_calibration(_miscalibrated(0, 0.7, -1.0), method, WHERE)
    grid = np.linspace(0, 1, 101)[:, None]
    applied = fitted.apply(("Mass",), grid)[:, 0]
    assert (np.diff(applied) >= 0).all()
    assert applied.min() >= 0
    assert applied.max() <= 1


def test_separable_classes_get_finite_curves() -> None:
    separable = _miscalibrated(0, 1.0, 0.0)
    separable = separable.with_probabilities(np.where(separable.targets == 1, 0.9, 0.1))
    curve = fit_calibration(separable, "platt", WHERE).curves["Mass"]
    assert curve is not None
    assert np.isfinite(all_present([curve.slope, curve.intercept])).all()


def test_one_class_leaves_probabilities_unchanged() -> None:
    alone = _miscalibrated(0, 2.0, 1.0)
    alone.targets[:] = 0
    fitted = fit_calibration(alone, "platt", WHERE)
    assert fitted.curves == {"Mass": None}
    np.testing.assert_array_equal(fitted.apply(alone.names, alone.probabilities), alone.probabilities)


def test_unknown_labels_are_left_out() -> None:
    part, complete = _miscalibrated(0, 2.0, 1.0), _miscalibrated(0, 2.0, 1.0)
    complete.targets[2000:] = np.nan
    assert fit_calibration(complete, "platt", WHERE) == fit_calibration(part.take(np.arange(2000)), "platt", WHERE)


def test_calibration_round_trips_through_json() -> None:
    found = Calibration(method="isotonic", chosen_on=WHERE, curves={"Mass": Curve(x=(0.0, 1.0), y=(0.1, 0.5))})
    assert Calibration.model_validate_json(found.model_dump_json()) == found
