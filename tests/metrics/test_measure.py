"""Metrics agree with scikit-learn, ignore unknown labels, and are left out of the mean if undefined."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from chexvision.metrics.bootstrap import resample_patients
from chexvision.metrics.catalog import METRICS
from chexvision.metrics.measure import measure
from chexvision.metrics.weighted import ECE_BINS, Measure
from tests.evaluation.conftest import METHOD, random_predictions
from tests.present import all_present


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 17]))
@settings(max_examples=25)
def test_all_metrics_agree_with_scikit_learn(seed: int, digits: int) -> None:
    predictions = random_predictions(80, 40, seed, names=("Mass", "Nodule"))
    predictions = predictions.with_probabilities(predictions.probabilities.round(digits))
    metrics = measure(predictions, thresholds={"Mass": 0.4, "Nodule": 0.6}, fewest=1)
    for i, (name, threshold) in enumerate((("Mass", 0.4), ("Nodule", 0.6))):
        of, scores, targets = metrics.findings[name], predictions.probabilities[:, i], predictions.targets[:, i]
        assert of.decision is not None
        calls = scores >= threshold
        assert of["auroc"].value == pytest.approx(roc_auc_score(targets, scores), abs=1e-12)
        assert of["auprc"].value == pytest.approx(average_precision_score(targets, scores), abs=1e-12)
        assert of["brier"].value == pytest.approx(brier_score_loss(targets, scores), abs=1e-12)
        assert of["f1"].value == pytest.approx(f1_score(targets, calls, zero_division=0), abs=1e-12)
        assert of["recall"].value == pytest.approx(recall_score(targets, calls), abs=1e-12)
        assert of["specificity"].value == pytest.approx(recall_score(1 - targets, ~calls), abs=1e-12)
        if calls.any():
            assert of["precision"].value == pytest.approx(precision_score(targets, calls), abs=1e-12)
        assert of.decision.true_positives == int((calls & (targets == 1)).sum())
        assert of["ece"].value == pytest.approx(_ece(scores, targets), abs=1e-12)


def _ece(scores: np.ndarray, targets: np.ndarray) -> float:
    total = 0.0
    for b in range(ECE_BINS):
        last = b == ECE_BINS - 1
        inside = (scores * ECE_BINS >= b) & ((scores * ECE_BINS < b + 1) | last)
        if inside.any():
            total += inside.mean() * abs(targets[inside].mean() - scores[inside].mean())
    return total


def test_each_resample_is_measured_as_its_repeated_images_would_be() -> None:
    predictions = random_predictions(120, 40)
    draws = resample_patients(len(np.unique(predictions.patients)), METHOD)[:, :5]
    figures = Measure(predictions, thresholds=dict.fromkeys(predictions.names, 0.5)).under(draws)
    patients = np.unique(predictions.patients)
    for b in range(5):
        rows = np.concatenate(
            [
                np.flatnonzero(predictions.patients == p).repeat(int(n))
                for p, n in zip(patients, draws[:, b], strict=True)
            ]
        )
        again = predictions.take(rows)
        alone = Measure(again, thresholds=dict.fromkeys(predictions.names, 0.5), fewest=1).once()
        for name in METRICS:
            np.testing.assert_allclose(figures[name][:, b], alone[name][:, 0], atol=1e-12)


def test_unknown_labels_are_masked_and_counted() -> None:
    complete = random_predictions(200, 80)
    targets = complete.targets.copy()
    targets[:50, 3] = np.nan
    metrics = measure(replace(complete, targets=targets))
    rest = measure(complete.take(np.arange(50, 200)))
    name = complete.names[3]
    assert metrics.findings[name].unknown == 50
    assert metrics.findings[name]["auroc"].value == rest.findings[name]["auroc"].value
    assert metrics.findings[name]["brier"].value == pytest.approx(rest.findings[name]["brier"].value)
    assert metrics.findings[name].decision == rest.findings[name].decision


def test_a_finding_without_positives_is_left_out_of_the_mean_and_named() -> None:
    predictions = random_predictions(100, 50)
    predictions.targets[:, 2] = 0
    metrics = measure(predictions, method=METHOD)
    left = predictions.names[2]
    assert metrics.findings[left]["auroc"].value is None
    assert metrics.findings[left]["auroc"].interval is None
    assert metrics.macro.left_out == (left,)
    assert metrics.macro.findings == 13
    others = [of["auroc"].value for name, of in metrics.findings.items() if name != left]
    assert metrics.macro["auroc"].value == pytest.approx(np.mean(all_present(others)))


def test_intervals_contain_their_estimates() -> None:
    metrics = measure(random_predictions(500, 200), method=METHOD)
    for of in (*metrics.findings.values(), metrics.binary):
        assert of is not None
        for value, ends in (
            (of["auroc"].value, of["auroc"].interval),
            (of["auprc"].value, of["auprc"].interval),
            (of["brier"].value, of["brier"].interval),
            (of["ece"].value, of["ece"].interval),
        ):
            assert value is not None
            assert ends is not None
            assert ends[0] <= value <= ends[1]
    assert metrics.interval == METHOD


def test_metrics_identify_their_images() -> None:
    predictions = random_predictions(50, 20)
    shuffled = predictions.take(np.random.default_rng(0).permutation(50))
    assert measure(predictions).images_sha256 == measure(shuffled).images_sha256
    assert measure(predictions).images_sha256 != measure(predictions.take(np.arange(49))).images_sha256
