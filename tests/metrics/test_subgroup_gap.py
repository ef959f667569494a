"""The gap between the best and the worst group: the false positive rate holds, and true gaps are found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from chexvision.metrics.predictions import Predictions
from chexvision.metrics.records import Gap, IntervalMethod
from chexvision.metrics.subgroups import measure_subgroups

NAMES = ("Effusion", "Mass")
GROUPS = np.array(["18-39", "40-59", "60-79", "80+", "0-17"])
DATASETS = 200
METHOD = IntervalMethod(resamples=200, seed=0)


def _data_set(seed: int, kind: str, harder: float = 0.0) -> tuple[Predictions, np.ndarray]:
    """Five groups with equal AUROC, unless `harder` lowers it in the first one.

    Args:
        seed: of everything random.
        kind: groups "unequal" in size, or "changing" from image to image of a patient; all differ in prevalence.
        harder: by how much the mean logit of positives is lower in the first group.
    """
    rng = np.random.default_rng(seed)
    patients = 400
    patient = np.repeat(np.arange(patients), np.minimum(rng.geometric(0.4, patients) + 1, 8))
    n = len(patient)
    shares = [0.35, 0.25, 0.15, 0.15, 0.1] if kind == "unequal" else [0.2] * 5
    group = rng.choice(5, patients, p=shares)[patient]
    if kind == "changing":
        group = np.where(rng.random(n) < 0.3, rng.integers(0, 5, n), group)
    prevalence = np.array([0.1, 0.15, 0.25, 0.3, 0.4])
    shape = (n, len(NAMES))
    illness = 0.8 * rng.normal(size=(patients, len(NAMES)))[patient] + 0.6 * rng.normal(size=shape)
    targets = (illness > norm.ppf(1 - prevalence[group])[:, None]).astype(np.float64)
    effect = np.where(group == 0, 1.2 - harder, 1.2)[:, None]
    logits = effect * targets + 0.6 * rng.normal(size=(patients, len(NAMES)))[patient] + rng.normal(size=shape) - 1
    filenames = np.array([f"{i:08d}.png" for i in range(n)])
    predictions = Predictions(NAMES, filenames, patient.astype(np.int64) + 1, 1 / (1 + np.exp(-logits)), targets)
    return predictions, GROUPS[group]


def _gap(seed: int, kind: str, harder: float = 0.0) -> Gap:
    predictions, group = _data_set(seed, kind, harder)
    (found,) = measure_subgroups(predictions, {"age": group}, METHOD)
    assert found.gap is not None
    return found.gap


@pytest.mark.parametrize("kind", ["unequal", "changing"])
def test_the_false_positive_rate_of_a_gap_is_5_percent(kind: str) -> None:
    gaps = [_gap(seed, kind) for seed in range(DATASETS)]
    assert {gap.pairs for gap in gaps} <= {6, 10}
    by_p_value = sum(gap.p_value is not None and gap.p_value < 0.05 for gap in gaps)
    by_interval = sum(gap.difference.interval is not None and gap.difference.interval[0] > 0 for gap in gaps)
    for false_positives in (by_p_value, by_interval):
        assert false_positives <= 18  # 99.7 % of 200 data sets with a rate of 5 %


def test_a_true_gap_is_found_and_its_groups_are_named() -> None:
    gaps = [_gap(seed, "unequal", harder=0.9) for seed in range(20)]
    found = [gap for gap in gaps if gap.p_value is not None and gap.p_value < 0.05]
    assert len(found) >= 16
    assert sum(gap.worst == "18-39" for gap in found) >= 15
    for gap in found:
        assert gap.difference.interval is not None
        assert gap.difference.interval[0] > -0.01
