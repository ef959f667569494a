"""Weights of an ensemble: fitted on uncalibrated members; the weighted mean is calibrated afterwards."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad

from chexvision.errors import UsageError
from chexvision.inference.ensemble import _CalibratedLoss, average, fit_weights
from chexvision.metrics.calibration import logit, sigmoid
from chexvision.metrics.measure import measure
from chexvision.metrics.operating_points import choose_operating_points
from chexvision.metrics.predictions import Predictions
from tests.evaluation.conftest import random_predictions

NAMES = ("Effusion", "Mass", "Nodule")


def _members(seed: int = 0, n: int = 3_000) -> tuple[Predictions, Predictions]:
    """Two members with different skill and independent errors, both well calibrated."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, len(NAMES))) < 0.2).astype(np.float64)
    filenames = np.array([f"{i:08d}_000.png" for i in range(n)])
    made = []
    for effect in (2.0, 1.0):
        evidence = effect * (targets - 0.5) + rng.normal(size=targets.shape)  # log odds are effect * evidence
        made.append(Predictions(NAMES, filenames, np.arange(n), sigmoid(effect * evidence + np.log(0.25)), targets))
    return made[0], made[1]


def _shifted(member: Predictions, shift: float) -> Predictions:
    return member.with_probabilities(sigmoid(logit(member.probabilities) + shift))


def _auroc(members: list[Predictions], weights: list[float]) -> float:
    found = measure(average(members, weights)).macro["auroc"].value
    assert found is not None
    return found


@pytest.mark.parametrize("shift", [0.0, 2.5])
def test_fitted_weights_are_nearly_optimal_on_other_images(shift: float) -> None:
    """A shift of all logits, as from training with a large `pos_weight`, does not affect them."""
    (better, worse), (other_better, other_worse) = _members(0), _members(1)
    weights = fit_weights([_shifted(better, shift), worse])
    assert sum(weights) == pytest.approx(1)
    other = [_shifted(other_better, shift), other_worse]
    best = max(_auroc(other, [share, 1 - share]) for share in np.linspace(0, 1, 21))
    assert _auroc(other, weights) > best - 0.004


def test_ensemble_weights_do_not_depend_on_member_calibration() -> None:
    better, worse = _members()
    honest, shifted = fit_weights([better, worse]), fit_weights([_shifted(better, 2.5), worse])
    assert shifted == pytest.approx(honest, abs=0.1)


def test_calibration_is_fitted_on_the_weighted_mean() -> None:
    members = [_shifted(member, 2.0) for member in _members()]
    mean = average(members, fit_weights(members))
    points = choose_operating_points(mean, "d", "validation", "f1", "platt")
    calibrated = points.calibrate(NAMES, mean.probabilities)
    np.testing.assert_allclose(calibrated.mean(axis=0), mean.targets.mean(axis=0), rtol=0.01)
    assert points.thresholds is not None
    assert points.thresholds.scale == "calibrated"


def test_the_gradient_matches_the_loss() -> None:
    predictions = random_predictions(80, 40, names=NAMES)
    predictions.targets[:20, 1] = np.nan
    loss = _CalibratedLoss([predictions, random_predictions(80, 40, 1, names=NAMES)])
    rng = np.random.default_rng(0)
    for _ in range(3):
        x = np.r_[rng.dirichlet([1, 1]), rng.normal(scale=0.3, size=2 * loss.outputs)]
        assert check_grad(lambda x: loss(x)[0], lambda x: loss(x)[1], x) < 1e-5


def test_outputs_with_one_class_are_left_out_of_the_fit() -> None:
    better, worse = _members()
    for member in (better, worse):
        member.targets[:, 2] = 0
    without = [
        Predictions(NAMES[:2], of.filenames, of.patients, of.probabilities[:, :2], of.targets[:, :2])
        for of in (better, worse)
    ]
    assert fit_weights([better, worse]) == pytest.approx(fit_weights(without))
    better.targets[:] = 0
    with pytest.raises(UsageError, match="no finding has images with and without it"):
        fit_weights([better, worse])
