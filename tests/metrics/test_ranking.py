"""AUROC and average precision of weighted images agree with scikit-learn, ties included."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from chexvision.metrics.bootstrap import resample_patients
from chexvision.metrics.ranking import Ranking
from chexvision.metrics.records import IntervalMethod


@st.composite
def _problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (many tied), targets (some unknown) and patients."""
    size = draw(st.integers(2, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = rng.random(size).round(draw(st.sampled_from([1, 2, 17])))
    targets = (rng.random(size) < draw(st.sampled_from([0.1, 0.5, 0.9]))).astype(float)
    targets[rng.random(size) < draw(st.sampled_from([0.0, 0.2]))] = np.nan
    patients = rng.integers(0, draw(st.integers(1, size)), size)
    return scores, targets, np.unique(patients, return_inverse=True)[1]


@given(_problems())
@settings(max_examples=150)
def test_each_resample_agrees_with_scikit_learn(problem: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    scores, targets, patients = problem
    count = int(patients.max()) + 1
    draws = resample_patients(count, IntervalMethod(resamples=8, seed=1)).astype(np.float64)
    ranking = Ranking.of(scores, targets, patients, count)
    auroc, average = ranking.areas(draws)
    np.testing.assert_array_equal(ranking.auroc(draws), auroc)
    known = ~np.isnan(targets)
    for b in range(draws.shape[1]):
        weights = draws[patients, b]
        used = known & (weights > 0)
        if len(set(targets[used].tolist())) < 2:
            assert np.isnan(auroc[b])
            assert np.isnan(average[b])
            continue
        asked = {"sample_weight": weights[used]}
        assert abs(auroc[b] - roc_auc_score(targets[used], scores[used], **asked)) < 1e-12
        assert abs(average[b] - average_precision_score(targets[used], scores[used], **asked)) < 1e-12


def test_a_large_set_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random(20_000) < 0.05).astype(float)
    scores = (rng.normal(size=20_000) + targets).round(3)
    patients = rng.integers(0, 5_000, 20_000)
    draws = resample_patients(5_000, IntervalMethod(resamples=3, seed=0)).astype(np.float64)
    auroc, average = Ranking.of(scores, targets, patients, 5_000).areas(draws)
    for b in range(3):
        weights = draws[patients, b]
        assert abs(auroc[b] - roc_auc_score(targets, scores, sample_weight=weights)) < 1e-12
        assert abs(average[b] - average_precision_score(targets, scores, sample_weight=weights)) < 1e-12
