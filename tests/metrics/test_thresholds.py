"""Thresholds meet their rule on the images they are chosen on, and cannot be applied to these."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chexvision.errors import ChexError, UsageError
from chexvision.files.json_files import read_record
from chexvision.metrics.measure import measure
from chexvision.metrics.operating_points import choose_operating_points, refuse_shared
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.records import FindingMetrics
from chexvision.metrics.thresholds import ChosenOn, Thresholds, choose_thresholds
from tests.evaluation.conftest import METHOD, random_predictions
from tests.present import present

WHERE = ChosenOn(dataset="d", split="validation", images=1, images_sha256="0")


def _at(predictions: Predictions, threshold: float) -> FindingMetrics:
    return measure(predictions, thresholds={"Mass": threshold}, fewest=1).findings["Mass"]


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 17]))
@settings(max_examples=40)
def test_no_other_threshold_is_better(seed: int, digits: int) -> None:
    predictions = random_predictions(40, 20, seed, names=("Mass",))
    predictions = predictions.with_probabilities(predictions.probabilities.round(digits))
    if not 0 < predictions.targets.sum() < 40:
        return

    def at(threshold: float) -> tuple[float, float, float]:
        of = _at(predictions, threshold)
        return present(of["f1"].value), present(of["recall"].value), present(of["specificity"].value)

    def chosen(rule: str) -> tuple[float, float, float]:
        return at(present(choose_thresholds(predictions, rule, WHERE).values["Mass"]))

    everywhere = [at(float(threshold)) for threshold in (*np.unique(predictions.probabilities), 1.1)]
    assert chosen("f1")[0] == pytest.approx(max(f1 for f1, _, _ in everywhere))
    _, recall, specificity = chosen("youden")
    assert recall + specificity == pytest.approx(max(recall + specificity for _, recall, specificity in everywhere))
    _, recall, specificity = chosen("sensitivity=0.9")
    assert recall >= 0.9
    assert specificity == max(specificity for _, recall, specificity in everywhere if recall >= 0.9)
    _, recall, specificity = chosen("specificity=0.8")
    assert specificity >= 0.8
    assert recall == max(recall for _, recall, specificity in everywhere if specificity >= 0.8)


def test_a_finding_with_one_class_has_no_threshold() -> None:
    predictions = random_predictions(30, 10, names=("Mass", "Nodule"))
    predictions.targets[:, 1] = 0
    found = choose_thresholds(predictions, "f1", WHERE)
    assert found.values["Nodule"] is None
    assert "Nodule" not in found.known
    assert measure(predictions, thresholds=found.known).findings["Nodule"].decision is None


@pytest.mark.parametrize("rule", ["f2", "sensitivity", "sensitivity=1.2", "specificity=x", ""])
def test_unknown_threshold_rules_are_refused(rule: str) -> None:
    with pytest.raises(UsageError, match="unknown threshold rule"):
        choose_thresholds(random_predictions(10, 5), rule, WHERE)


def test_operating_points_refuse_the_images_they_were_chosen_on() -> None:
    validation, test = random_predictions(200, 80, 0), random_predictions(200, 80, 1)
    points = choose_operating_points(validation, "d", "validation", "f1", "platt")
    assert points.measure(test.take(np.arange(150)), "test", METHOD).thresholds == "f1 on validation"
    shuffled = validation.take(np.random.default_rng(0).permutation(200))
    with pytest.raises(UsageError, match="chosen on the very images"):
        points.measure(shuffled, "validation", METHOD)


def test_images_and_patients_shared_by_both_splits_are_refused() -> None:
    complete = random_predictions(200, 80)
    first, second = complete.take(complete.patients <= 40), complete.take(complete.patients > 40)
    refuse_shared(first, second)
    with pytest.raises(UsageError, match=r"image .* is in the images that thresholds are chosen on"):
        refuse_shared(first, complete)
    divided = complete.patients[100]
    with pytest.raises(UsageError, match=f"patient {divided} is in"):
        refuse_shared(complete.take(np.arange(101)), complete.take(np.arange(101, 200)))


def test_thresholds_round_trip_through_their_file(tmp_path: Path) -> None:
    found = choose_thresholds(random_predictions(50, 20), "youden", WHERE)
    path = tmp_path / "thresholds.json"
    path.write_text(found.model_dump_json())
    assert read_record(path, Thresholds) == found
    path.write_text("{}")
    with pytest.raises(ChexError, match="cannot be used: rule: Field required"):
        read_record(path, Thresholds)
