"""Prior shift: a prevalence other than that of calibration is estimated without labels and corrected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chexvision.errors import ChexError
from chexvision.files.json_files import read_record
from chexvision.metrics.calibration import Calibration
from chexvision.metrics.operating_points import OperatingPoints, choose_operating_points
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.prior_shift import corrected, estimated_prevalence
from chexvision.metrics.records import IntervalMethod
from chexvision.report.wording import prior_shift_text

NAMES = ("Effusion", "Mass", "Abnormal")
METHOD = IntervalMethod(resamples=100, seed=0)


def _images(prevalence: float, seed: int, patients_from: int, n: int = 8_000) -> Predictions:
    """Images whose scores given the label do not depend on the prevalence."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, len(NAMES))) < prevalence).astype(np.float64)
    logits = 2.0 * targets + rng.normal(size=targets.shape) - 3
    patients = np.arange(n) + patients_from
    names = np.array([f"{patient:08d}_000.png" for patient in patients])
    return Predictions(NAMES, names, patients, 1 / (1 + np.exp(-logits)), targets)


@pytest.fixture(scope="module")
def points() -> OperatingPoints:
    return choose_operating_points(_images(0.08, 0, 1), "d", "validation", "f1", "platt")


@given(st.floats(1e-6, 1 - 1e-6), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
@settings(max_examples=50)
def test_a_correction_multiplies_the_odds_and_is_invertible(probability: float, before: float, after: float) -> None:
    p = np.array([probability])
    changed = corrected(p, before, after)
    odds = changed / (1 - changed) / (p / (1 - p))
    assert odds[0] == pytest.approx(after / (1 - after) / (before / (1 - before)), rel=1e-6)
    np.testing.assert_allclose(corrected(changed, after, before), p, rtol=1e-6)
    assert corrected(np.array([before]), before, after)[0] == pytest.approx(after)


@pytest.mark.parametrize("prevalence", [0.03, 0.08, 0.25])
def test_the_prevalence_is_estimated_without_labels(points: OperatingPoints, prevalence: float) -> None:
    test = _images(prevalence, 1, 100_000)
    assert points.calibration is not None
    for i, name in enumerate(NAMES):
        curve = points.calibration.curves[name]
        assert curve is not None
        found = estimated_prevalence(curve.apply(test.probabilities[:, i]), points.calibration.prevalences[name])
        assert found == pytest.approx(test.targets[:, i].mean(), rel=0.1, abs=0.011)


def test_the_estimate_is_the_fixed_point_of_em(points: OperatingPoints) -> None:
    test = _images(0.2, 2, 100_000)
    p, before = points.calibrate(NAMES, test.probabilities)[:, 0], 0.08
    prevalence = before
    for _ in range(2_000):
        prevalence = float(corrected(p, before, prevalence).mean())
    assert estimated_prevalence(p, before) == pytest.approx(prevalence, abs=1e-6)


def test_correction_restores_calibration_if_only_the_prevalence_differs(points: OperatingPoints) -> None:
    test = _images(0.24, 1, 100_000)
    shift = points.measure(test, "test", METHOD).prior_shift
    assert shift is not None
    assert shift.calibrated_on == "validation"
    assert shift.macro_findings == 2
    for i, name in enumerate(NAMES):
        of = shift.outputs[name]
        assert of.here == pytest.approx(test.targets[:, i].mean())
        assert of.ratio == pytest.approx(3, rel=0.1)
        assert of.implied == pytest.approx(of.here, rel=0.1)
        assert of.predicted < of.here - 0.05
        assert of.ece[1] < of.ece[0] / 3
        assert of.brier[1] < of.brier[0]
    again = points.measure(test, "test", METHOD)
    assert shift.outputs["Mass"].ece[0] == again.findings["Mass"]["ece"].value
    assert shift.macro_ece == pytest.approx(
        tuple(np.mean([shift.outputs[name].ece[i] for name in ("Effusion", "Mass")]) for i in (0, 1))
    )


def test_the_implied_prevalence_uses_no_labels(points: OperatingPoints) -> None:
    test = _images(0.24, 1, 100_000)
    other = Predictions(NAMES, test.filenames, test.patients, test.probabilities, test.targets[::-1].copy())
    shifts = [points.measure(of, "test", METHOD).prior_shift for of in (test, other)]
    assert shifts[0] is not None
    assert shifts[1] is not None
    for name in NAMES:
        assert shifts[0].outputs[name].implied == shifts[1].outputs[name].implied


def test_equal_prevalence_hardly_changes_calibration(points: OperatingPoints) -> None:
    shift = points.measure(_images(0.08, 3, 100_000), "test", METHOD).prior_shift
    assert shift is not None
    for of in shift.outputs.values():
        assert of.ratio == pytest.approx(1, abs=0.15)
        assert of.ece[1] == pytest.approx(of.ece[0], abs=0.006)


def test_without_calibration_nothing_is_corrected() -> None:
    assert OperatingPoints().measure(_images(0.2, 0, 1, 300), "test", None).prior_shift is None
    without = choose_operating_points(_images(0.2, 0, 1, 300), "d", "validation", "f1", "none")
    assert without.measure(_images(0.2, 1, 5_000, 300), "test", None).prior_shift is None


def test_a_calibration_of_an_earlier_version_is_read_without_a_correction(points: OperatingPoints) -> None:
    assert points.calibration is not None
    before = points.calibration.model_copy(update={"prevalences": {}})
    assert OperatingPoints(before).measure(_images(0.2, 1, 5_000, 300), "test", None).prior_shift is None


@pytest.mark.parametrize("prevalence", [0, 1, 1e-320, 1e-6, 1 - 1e-6])
def test_a_prevalence_of_0_or_1_is_not_corrected(points: OperatingPoints, prevalence: float, tmp_path: Path) -> None:
    assert points.calibration is not None
    path = tmp_path / "calibration.json"
    prevalences = {**points.calibration.prevalences, "Mass": prevalence}
    path.write_text(points.calibration.model_copy(update={"prevalences": prevalences}).model_dump_json())
    shift = (
        OperatingPoints(read_record(path, Calibration)).measure(_images(0.2, 1, 5_000, 300), "test", None).prior_shift
    )
    assert shift is not None
    assert list(shift.outputs) == ["Effusion", "Abnormal"]


@pytest.mark.parametrize("prevalence", [-1, 5, -1e-320])
def test_a_prevalence_that_is_not_a_probability_is_refused(
    points: OperatingPoints, prevalence: float, tmp_path: Path
) -> None:
    assert points.calibration is not None
    path = tmp_path / "calibration.json"
    path.write_text(points.calibration.model_copy(update={"prevalences": {"Mass": prevalence}}).model_dump_json())
    with pytest.raises(ChexError, match=r"calibration.json cannot be used: prevalences.Mass: "):
        read_record(path, Calibration)


def test_outputs_with_too_few_cases_are_left_out(points: OperatingPoints) -> None:
    test = _images(0.2, 1, 100_000, 300)
    test.targets[:, 0] = 0
    shift = points.measure(test, "test", None).prior_shift
    assert shift is not None
    assert list(shift.outputs) == ["Mass", "Abnormal"]


def test_the_correction_does_not_help_under_covariate_shift(
    points: OperatingPoints,
) -> None:
    """Covariate shift: all scores are higher in the population with the higher prevalence."""
    rng = np.random.default_rng(5)
    shape = (8_000, len(NAMES))
    raw = 1 / (1 + np.exp(3 - 2 * (rng.random(shape) < 0.3) - rng.normal(size=shape)))
    patients = np.arange(len(raw)) + 200_000
    names = np.array([f"{patient:08d}_000.png" for patient in patients])
    calibrated = points.calibrate(NAMES, raw)
    test = Predictions(NAMES, names, patients, raw, (rng.random(shape) < calibrated).astype(np.float64))
    shift = points.measure(test, "test", METHOD).prior_shift
    assert shift is not None
    assert shift.outputs["Mass"].ratio > 1.5
    assert not shift.helps
    assert shift.macro_ece[0] < 0.01
    assert "the correction does not help" in prior_shift_text(shift)
