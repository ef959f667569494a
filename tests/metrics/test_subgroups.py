"""Groups are measured on the same findings and resamples, and small groups have a note."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from chexvision.metrics.bootstrap import interval, resample_patients
from chexvision.metrics.measure import measure
from chexvision.metrics.subgroups import group_images, measure_subgroups
from chexvision.metrics.weighted import Measure
from tests.evaluation.conftest import METHOD, random_predictions


def test_ages_are_grouped_into_bands() -> None:
    groups = group_images(["F", "M", None], [0, 39, 95], ["PA", "AP", None], [0, 3, 7])
    assert groups["sex"].tolist() == ["F", "M", ""]
    assert groups["age"].tolist() == ["0-17", "18-39", "80+"]
    assert groups["view"].tolist() == ["PA", "AP", ""]
    assert groups["follow-up"].tolist() == ["first", "1-4", "5+"]


def test_a_group_is_measured_like_a_separate_data_set() -> None:
    predictions = random_predictions(600, 200)
    sex = np.where(predictions.patients % 2 == 0, "F", "M")
    (found,) = measure_subgroups(predictions, {"sex": sex}, METHOD, thresholds={"Abnormal": 0.4})
    for group in found.groups:
        alone = measure(predictions.take(sex == group.group), thresholds={"Abnormal": 0.4})
        assert group.images == alone.images
        assert group.patients == alone.patients
        assert group.macro_auroc.value == pytest.approx(alone.macro_auroc)
        assert group.binary_auroc.value == pytest.approx(alone.binary_auroc)
        assert group.recall.value == alone.binary["recall"].value  # type: ignore[index]
        assert group.specificity.value == alone.binary["specificity"].value  # type: ignore[index]
        assert group.findings["Mass"].auroc.value == pytest.approx(alone.findings["Mass"]["auroc"].value)


def test_all_groups_share_the_same_patient_resamples() -> None:
    predictions = random_predictions(600, 200)
    sex = np.where(np.arange(600) % 3 == 0, "F", "M")
    (found,) = measure_subgroups(predictions, {"sex": sex}, METHOD)
    draws = resample_patients(len(np.unique(predictions.patients)), METHOD)
    for group in found.groups:
        targets = np.where((sex == group.group)[:, None], predictions.targets, np.nan)
        masked = Measure(replace(predictions, targets=targets), only=("auroc",)).under(draws)["auroc"]
        i = predictions.column("Mass")
        assert group.findings["Mass"].auroc.interval == pytest.approx(interval(masked[i], METHOD.level))


def test_a_true_gap_has_an_interval_above_zero() -> None:
    predictions = random_predictions(1200, 600)
    view = np.where(predictions.patients % 2 == 0, "AP", "PA")
    worse = predictions.probabilities.copy()
    rng = np.random.default_rng(0)
    worse[view == "AP"] = rng.random(worse[view == "AP"].shape)
    (found,) = measure_subgroups(predictions.with_probabilities(worse), {"view": view}, METHOD)
    assert found.gap is not None
    assert (found.gap.best, found.gap.worst) == ("PA", "AP")
    assert found.gap.difference.interval is not None
    assert found.gap.difference.interval[0] > 0.1


def test_a_group_compared_with_its_own_copy_has_no_gap() -> None:
    """Patients in both groups are resampled together, so their noise cancels."""
    predictions = random_predictions(400, 150)
    twice = np.r_[np.arange(400), np.arange(400)]
    both = predictions.take(twice)
    (found,) = measure_subgroups(both, {"view": np.repeat(["AP", "PA"], 400)}, METHOD)
    assert found.gap is not None
    assert found.gap.difference.value == 0
    assert found.gap.difference.interval == (0, 0)


def test_small_groups_are_noted_and_not_compared() -> None:
    predictions = random_predictions(300, 100)
    view = np.array(["PA"] * 260 + ["AP"] * 40)
    (found,) = measure_subgroups(predictions, {"view": view}, METHOD)
    small = found.groups[0]
    assert small.group == "AP"
    assert small.note == "40 images are too few to compare (fewer than 100)"
    assert small.macro_auroc.value is None
    assert found.gap is None


def test_findings_missing_in_one_group_are_left_out_for_all() -> None:
    predictions = random_predictions(600, 200)
    sex = np.where(predictions.patients % 2 == 0, "F", "M")
    predictions.targets[sex == "F", 0] = 0
    (found,) = measure_subgroups(predictions, {"sex": sex}, METHOD)
    assert predictions.names[0] not in found.macro_findings
    assert len(found.macro_findings) == 13
    assert found.groups[0].findings[predictions.names[0]].auroc.value is None


def test_an_attribute_with_one_group_is_left_out() -> None:
    assert measure_subgroups(random_predictions(100, 40), {"view": np.full(100, "PA")}, METHOD) == ()


def test_a_group_with_few_cases_does_not_reduce_the_findings_of_the_others() -> None:
    predictions = random_predictions(900, 300)
    age = np.where(predictions.patients % 5 == 0, "80+", np.where(predictions.patients % 2 == 0, "40-59", "60-79"))
    for i in range(9):
        predictions.targets[age == "80+", i] = 0
    (found,) = measure_subgroups(predictions, {"age": age}, METHOD)
    assert len(found.macro_findings) == 14
    oldest = next(group for group in found.groups if group.group == "80+")
    assert oldest.macro_auroc.value is None
    assert oldest.note == "too few cases to compare: enough of 5 of 14 findings"
    assert found.gap is not None
    assert found.gap.pairs == 1
