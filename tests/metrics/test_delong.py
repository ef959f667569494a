"""DeLong's variance: the published example, the definition, and patients as clusters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chexvision.metrics.compare import contributions, p_value, standard_error

# DeLong, DeLong and Clarke-Pearson, Biometrics 1988: albumin, total protein and K-G score of patients with ovarian
# cancer, and whether surgery helped (0: yes), in the 43 complete records that the documentation of SAS's PROC
# LOGISTIC ("Comparing Receiver Operating Characteristic Curves") prints with the results below.
_PATIENTS = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1
3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0
2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1
3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0
3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1
3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""


def test_the_published_example() -> None:
    albumin, protein, score, popind = np.array(_PATIENTS.split(), float).reshape(-1, 4).T
    found = {
        name: contributions(values, popind)
        for name, values in (("albumin", albumin), ("protein", protein), ("kg", 10 - score))
    }
    published = {"albumin": (0.7366, 0.0927), "kg": (0.7258, 0.1028), "protein": (0.6478, 0.1000)}
    for name, (auroc, error) in published.items():
        assert found[name][0] == pytest.approx(auroc, abs=5e-5)
        assert standard_error(found[name][1]) == pytest.approx(error, abs=5e-5)
    for name, difference, error, p in (("albumin", 0.0108, 0.0953, 0.9102), ("protein", -0.0780, 0.1046, 0.4561)):
        between = found[name][0] - found["kg"][0]
        of_between = standard_error(found[name][1] - found["kg"][1])
        assert between == pytest.approx(difference, abs=5e-5)
        assert of_between == pytest.approx(error, abs=5e-5)
        assert p_value(between, of_between) == pytest.approx(p, abs=5e-5)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 17]))
@settings(max_examples=60)
def test_variance_and_covariance_match_the_definition(seed: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    targets = np.r_[1, 1, 0, 0, rng.integers(0, 2, 30)].astype(float)
    scores = [(rng.normal(size=34) + targets).round(digits) for _ in range(2)]
    found = [contributions(one, targets) for one in scores]
    placed = [_placements(one, targets) for one in scores]
    for a in range(2):
        assert found[a][0] == pytest.approx(placed[a][0].mean(), abs=1e-12)
        for b in range(2):
            covariance = sum(np.cov(placed[a][k], placed[b][k])[0, 1] / len(placed[a][k]) for k in range(2))
            assert float(found[a][1] @ found[b][1]) == pytest.approx(covariance, abs=1e-12)


def _placements(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By comparing every positive with every negative."""
    positive, negative = scores[targets == 1], scores[targets == 0]
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    return wins.mean(axis=1), wins.mean(axis=0)


def test_copies_of_an_image_add_nothing_when_patients_are_clusters() -> None:
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 2, 100).astype(float)
    scores = rng.normal(size=100) + targets
    alone = standard_error(contributions(scores, targets)[1])
    copied = contributions(np.repeat(scores, 4), np.repeat(targets, 4))[1]
    assert standard_error(copied) == pytest.approx(alone / 2, rel=0.02)
    assert standard_error(copied, np.repeat(np.arange(100), 4)) == pytest.approx(alone, rel=0.02)


def test_unknown_targets_are_ignored() -> None:
    rng = np.random.default_rng(2)
    targets = rng.integers(0, 2, 50).astype(float)
    scores = rng.normal(size=50)
    more = contributions(np.r_[scores, 9.0], np.r_[targets, np.nan])
    assert more[0] == contributions(scores, targets)[0]
    assert more[1][-1] == 0
    assert standard_error(more[1]) == standard_error(contributions(scores, targets)[1])


def test_too_few_images_of_a_class_have_no_variance() -> None:
    with pytest.raises(ValueError, match="1 positives and 3 negatives"):
        contributions(np.arange(4.0), np.array([1.0, 0, 0, 0]))
