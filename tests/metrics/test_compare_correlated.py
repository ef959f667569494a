"""The p-values of `compare` account for correlated models and correlated images of a patient."""

from __future__ import annotations

import numpy as np
import pytest

from chexvision.metrics.compare import compare, p_value
from chexvision.metrics.measure import measure
from chexvision.metrics.predictions import Predictions
from tests.evaluation.conftest import METHOD, random_predictions
from tests.metrics.test_delong import _PATIENTS, _placements


def cancer(scores: np.ndarray, popind: np.ndarray) -> Predictions:
    names = np.array([f"{i:08d}_000.png" for i in range(len(scores))])
    return Predictions(("Cancer",), names, np.arange(len(scores)), scores[:, None] / 20, popind[:, None])


def related(seed: int = 0) -> tuple[Predictions, Predictions]:
    """Two models with correlated errors; one image per patient."""
    first = random_predictions(300, 300, seed, names=("Mass", "Nodule"))
    noise = np.random.default_rng(seed + 1).normal(size=first.probabilities.shape)
    logits = np.log(first.probabilities / (1 - first.probabilities)) + 0.5 * noise
    return first, first.with_probabilities(1 / (1 + np.exp(-logits)))


def test_the_published_example_of_correlated_curves() -> None:
    """DeLong et al. 1988 as SAS prints it; the order of two models does not matter to the test."""
    albumin, protein, score, popind = np.array(_PATIENTS.split(), float).reshape(-1, 4).T
    kg = cancer(10 - score, popind)
    for values, difference, p in ((albumin, 0.0108, 0.9102), (protein, -0.0780, 0.4561)):
        found = compare(kg, cancer(values, popind), METHOD)
        for of in (found.outputs["Cancer"], found.macro):
            assert of.difference.value == pytest.approx(difference, abs=5e-5)
            assert of.p_delong == pytest.approx(p, abs=5e-5)
            assert of.p_patients == pytest.approx(p, abs=5e-5)  # one image per patient
        assert compare(cancer(values, popind), kg, METHOD).macro.p_delong == pytest.approx(p, abs=5e-5)


def test_the_variance_of_the_mean_over_findings_matches_its_definition() -> None:
    """Over both models and findings: the variance of a signed mean of placements of all patients."""
    first, second = related()
    found = compare(first, second, METHOD).macro
    signed = np.zeros((2, len(first)))
    variance = 0.0
    for sign, model in ((-1, first), (1, second)):
        for i in range(2):
            target = model.targets[:, i]
            for kind, placed in zip((1, 0), _placements(model.probabilities[:, i], target), strict=True):
                at = target == kind
                shares = (placed - placed.mean()) / np.sqrt(len(placed) * (len(placed) - 1))
                signed[i, at] += sign * shares / 2
    variance = float((signed.sum(axis=0) ** 2).sum())
    assert found.difference.value is not None
    assert found.p_delong == pytest.approx(p_value(found.difference.value, variance**0.5), rel=1e-9)


def test_the_p_value_agrees_with_the_paired_bootstrap() -> None:
    first, second = related(5)
    method = METHOD.model_copy(update={"resamples": 1000})
    found = compare(first, second, method).macro
    assert found.difference.value is not None and found.difference.interval is not None and found.p_delong is not None
    error = (found.difference.interval[1] - found.difference.interval[0]) / (2 * 1.96)
    assert found.p_delong == pytest.approx(p_value(found.difference.value, error), abs=0.03)
    alone = measure(first, method=method).macro["auroc"].interval
    assert alone is not None
    assert error < 0.6 * (alone[1] - alone[0]) / (2 * 1.96)  # uncorrelated models would give 1.4


def test_copies_of_an_image_do_not_make_a_difference_significant() -> None:
    first, second = related()
    rows = np.repeat(np.arange(len(first)), 9)
    names = np.array([f"{i:08d}_{k:03d}.png" for i, k in zip(rows, np.tile(np.arange(9), len(first)), strict=True)])

    def copied(model: Predictions) -> Predictions:
        of = model.take(rows)
        return Predictions(of.names, names, of.patients, of.probabilities, of.targets)

    once, nine = (compare(a, b, METHOD).macro for a, b in ((first, second), (copied(first), copied(second))))
    assert once.p_delong is not None and nine.p_delong is not None
    assert nine.p_patients == pytest.approx(once.p_patients, rel=0.02, abs=0.002)
    assert nine.p_delong < 0.2 * once.p_delong
