"""Thresholds are chosen on calibrated probabilities, to which they are applied."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from chexvision.artifact.metrics_file import Conditions
from chexvision.evaluation.protocol import evaluate_trained
from chexvision.metrics.operating_points import choose_operating_points
from chexvision.metrics.predictions import Predictions
from tests.evaluation.conftest import METHOD, random_predictions


def shifted(predictions: Predictions) -> Predictions:
    """As trained with `pos_weight`: much too high for rare findings, so that Platt changes them much."""
    logits = np.log(predictions.probabilities / (1 - predictions.probabilities))
    return predictions.with_probabilities(1 / (1 + np.exp(-(0.5 * logits + 2.5))))


@pytest.fixture(scope="module")
def validation() -> Predictions:
    return shifted(random_predictions(600, 250, 0))


@pytest.fixture(scope="module")
def held_out() -> Predictions:
    complete = shifted(random_predictions(500, 250, 1))
    return Predictions(complete.names, np.char.add("t", complete.filenames), *_rest(complete))


def _rest(complete: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return complete.patients + 1000, complete.probabilities, complete.targets


def best_f1(scores: np.ndarray, targets: np.ndarray) -> float:
    calls = scores >= np.unique(scores)[:, None]
    hits = (calls & (targets == 1)).sum(axis=1)
    return float((2 * hits / (calls.sum(axis=1) + targets.sum())).max())


def test_chosen_thresholds_are_optimal_for_calibrated_probabilities(validation: Predictions) -> None:
    points = choose_operating_points(validation, "d", "validation", "f1", "platt")
    assert points.thresholds is not None and points.thresholds.scale == "calibrated"
    calibrated = points.calibrate(validation.names, validation.probabilities)
    assert np.abs(calibrated - validation.probabilities).mean() > 0.3
    for i, (name, threshold) in enumerate(points.thresholds.known.items()):
        targets = validation.targets[:, i]
        reached = f1_score(targets, calibrated[:, i] >= threshold)
        assert reached == pytest.approx(best_f1(calibrated[:, i], targets)), name


def test_without_calibration_thresholds_apply_to_raw_probabilities(validation: Predictions) -> None:
    points = choose_operating_points(validation, "d", "validation", "f1", "none")
    assert points.thresholds is not None and points.thresholds.scale == "raw"
    threshold = points.thresholds.known["Mass"]
    i = validation.column("Mass")
    reached = f1_score(validation.targets[:, i], validation.probabilities[:, i] >= threshold)
    assert reached == pytest.approx(best_f1(validation.probabilities[:, i], validation.targets[:, i]))


def test_calibration_does_not_change_decisions_on_other_images(
    validation: Predictions, held_out: Predictions
) -> None:
    """It is monotonic, so the best thresholds on calibrated and on raw probabilities give the same decisions."""
    found = {
        how: choose_operating_points(validation, "d", "validation", "f1", how).measure(held_out, "test", None)
        for how in ("platt", "none")
    }
    for name, of in found["platt"].findings.items():
        raw = found["none"].findings[name]
        assert of.decision is not None and raw.decision is not None
        assert 0 < of.decision.true_positives < of.positives
        # Thresholds are halfway between two validation scores, which depends on the scale.
        assert of.decision.true_positives == pytest.approx(raw.decision.true_positives, abs=2), name
        assert of.decision.false_positives == pytest.approx(raw.decision.false_positives, abs=4), name
        assert of["brier"].value is not None and raw["brier"].value is not None
        assert of["brier"].value < raw["brier"].value
        assert of["auroc"].value == raw["auroc"].value


def test_final_metrics_apply_thresholds_of_validation_to_test(validation: Predictions, held_out: Predictions) -> None:
    """Also in subgroups: recall is that of decisions on calibrated probabilities."""
    half = np.array(["F", "M"])[np.arange(len(held_out)) % 2]
    conditions = Conditions(dataset="d", synthetic=False, split="test")
    found, points = evaluate_trained("a", {"validation": validation, "test": held_out}, {"sex": half}, conditions)
    again = choose_operating_points(validation, "d", "validation", "f1", "platt")
    assert points == again
    expected = again.measure(held_out, "test", METHOD)
    for name, of in found.splits["test"].findings.items():
        assert of.decision is not None
        other = expected.findings[name]
        assert (of.decision, of["recall"].value) == (other.decision, other["recall"].value)
    assert found.splits["test"].calibration == "platt on validation"
    assert found.splits["validation"].calibration == "none"  # no threshold is applied to the split it was chosen on
    assert found.splits["validation"].thresholds == "fixed at 0.5"
    (sex,) = found.subgroups
    threshold = again.thresholds.known["Abnormal"] if again.thresholds else 0.0
    i = held_out.column("Abnormal")
    calibrated = again.calibrate(held_out.names, held_out.probabilities)[:, i]
    for group in sex.groups:
        positives = (half == group.group) & (held_out.targets[:, i] == 1)
        assert group.recall.value == pytest.approx(float((calibrated[positives] >= threshold).mean()))
