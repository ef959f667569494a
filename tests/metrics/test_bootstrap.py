"""Intervals cover the true value and account for correlated images of a patient."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from chexvision.metrics.bootstrap import interval, patient_index, resample_patients
from chexvision.metrics.ranking import Ranking
from chexvision.metrics.records import IntervalMethod
from chexvision.nih.metadata import read_metadata
from chexvision.shards.split import read_split_table
from tests.present import present


def test_resamples_are_patients_with_replacement_and_repeat_with_their_seed() -> None:
    method = IntervalMethod(resamples=130, seed=5)
    draws = resample_patients(40, method)
    assert draws.shape == (40, 130)
    np.testing.assert_array_equal(draws.sum(axis=0), 40)
    np.testing.assert_array_equal(draws, resample_patients(40, method))
    assert (draws != resample_patients(40, method.model_copy(update={"seed": 6}))).any()
    assert len(np.unique(draws, axis=1).T) == 130


def test_95_percent_intervals_cover_the_true_auroc() -> None:
    """Two normal distributions a deviation apart: the true AUROC is known."""
    rng = np.random.default_rng(7)
    truth = 0.5 * math.erfc(-1 / 2)  # Φ(1/√2)
    method = IntervalMethod(resamples=300, seed=0)
    patients, images, runs, covered = 150, 2, 700, 0
    index = np.repeat(np.arange(patients), images)
    draws = resample_patients(patients, method).astype(np.float64)
    for _ in range(runs):
        targets = (rng.random(patients * images) < 0.35).astype(float)
        shared = rng.normal(size=patients)[index]
        scores = targets + math.sqrt(0.5) * (shared + rng.normal(size=len(index)))
        found = interval(Ranking.of(scores, targets, index, patients).auroc(draws), 0.95)
        assert found is not None
        covered += found[0] <= truth <= found[1]
    assert 0.93 <= covered / runs <= 0.97


@pytest.fixture(scope="module")
def real_test_split(real_data: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Patients, Effusion labels and patient-wise noisy scores of the public test list."""
    entries = read_metadata(real_data / "Data_Entry_2017_v2020.csv.gz")
    table = read_split_table(real_data / "chexnet_patient_split.csv.gz")
    test = [entry for entry in entries.values() if table[entry.patient_id] == "test"]
    assert len(test) == 22_433
    patients = np.array([entry.patient_id for entry in test])
    targets = np.array([float("Effusion" in entry.labels.split("|")) for entry in test])
    rng = np.random.default_rng(0)
    index, count = patient_index(patients)
    scores = 1.3 * targets + 0.7 * rng.normal(size=count)[index] + 0.7 * rng.normal(size=len(index))
    return patients, targets, scores


def test_patient_level_intervals_are_wider_than_image_level_ones_on_the_real_release(
    real_test_split: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    patients, targets, scores = real_test_split
    method = IntervalMethod(resamples=300, seed=0)

    def width(groups: np.ndarray) -> float:
        index, count = patient_index(groups)
        draws = resample_patients(count, method).astype(np.float64)
        found = interval(Ranking.of(scores, targets, index, count).auroc(draws), 0.95)
        assert found is not None
        return found[1] - found[0]

    by_patient, by_image = width(patients), width(np.arange(len(patients)))
    assert by_patient > 1.3 * by_image


def test_shifted_intervals_of_few_positives_cover_the_true_average_precision_better() -> None:
    rng = np.random.default_rng(0)
    many = rng.random(400_000) < 0.05
    truth = average_precision_score(many, rng.normal(size=len(many)) + many)
    method = IntervalMethod(resamples=200, seed=0)
    index, draws = np.arange(300), resample_patients(300, method).astype(np.float64)
    covered = np.zeros(2)
    for _ in range(300):
        targets = (rng.random(300) < 0.05).astype(float)
        ranking = Ranking.of(rng.normal(size=300) + targets, targets, index, 300)
        values = ranking.areas(draws)[1]
        itself = float(ranking.areas(np.ones((300, 1)))[1][0])
        for i, shift in enumerate((None, itself)):
            found = interval(values, 0.95, unbiased_for=shift)
            covered[i] += found is not None and found[0] <= truth <= found[1]
    assert covered[1] > covered[0]
    assert covered[1] / 300 > 0.9


def test_a_metric_defined_in_few_resamples_gets_no_interval() -> None:
    assert interval(np.array([0.5, np.nan, np.nan]), 0.95) is None
    assert interval(np.array([0.5, 0.7, np.nan]), 0.5) == pytest.approx((0.55, 0.65))


def test_the_bootstrap_bias_is_removed_from_a_distance() -> None:
    low, high = present(interval(np.array([0.03, 0.04, 0.05]), 0.5, unbiased_for=0.02))
    assert (low, high) == pytest.approx((0.015, 0.025))
