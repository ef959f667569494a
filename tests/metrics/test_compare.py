"""Paired comparisons need the same images, in any order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from chexvision.errors import UsageError
from chexvision.hub.reference import short_names
from chexvision.metrics.compare import compare
from chexvision.metrics.measure import measure
from chexvision.metrics.predictions import Predictions
from tests.evaluation.conftest import METHOD, random_predictions
from tests.present import present


def _better(predictions: Predictions) -> Predictions:
    logits = np.log(predictions.probabilities / (1 - predictions.probabilities)) + 1.5 * predictions.targets
    return predictions.with_probabilities(1 / (1 + np.exp(-logits)))


def test_differences_are_second_minus_first_for_any_image_order() -> None:
    first = random_predictions()
    second = _better(first).take(np.random.default_rng(0).permutation(len(first)))
    found = compare(first, second, METHOD, ("a", "b"))
    of = found.outputs["Mass"]
    difference = present(of.difference.value)
    i = first.column("Mass")
    again = _better(first)
    assert of.first == pytest.approx(roc_auc_score(first.targets[:, i], first.probabilities[:, i]), abs=1e-12)
    assert of.second == pytest.approx(roc_auc_score(again.targets[:, i], again.probabilities[:, i]), abs=1e-12)
    assert difference == pytest.approx(present(of.second) - present(of.first))
    low, high = present(of.difference.interval)
    assert 0 < low < difference < high
    assert of.p_delong is not None
    assert of.p_delong < 0.001
    assert found.macro.p_patients is not None
    assert found.macro.p_patients < 0.001
    assert found.macro_findings == 14
    assert found.macro.difference.value == pytest.approx(
        present(measure(again).macro_auroc) - present(measure(first).macro_auroc)
    )


def test_a_model_does_not_differ_from_itself() -> None:
    found = compare(random_predictions(), random_predictions(), METHOD)
    assert found.macro.difference.value == 0
    assert found.macro.difference.interval == (0.0, 0.0)
    assert found.macro.p_delong == 1


def test_pairing_narrows_intervals_of_similar_models() -> None:
    first = random_predictions()
    nearly = first.with_probabilities(np.clip(first.probabilities + 0.01 * first.targets, 0, 1))
    found = compare(first, nearly, METHOD)
    alone = measure(first, method=METHOD).macro["auroc"].interval
    assert found.macro.difference.interval is not None
    assert alone is not None
    assert found.macro.difference.interval[1] - found.macro.difference.interval[0] < 0.2 * (alone[1] - alone[0])


def test_the_false_positive_rate_matches_the_significance_level() -> None:
    values = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        targets = (rng.random((200, 1)) < 0.4).astype(float)
        names = np.array([f"{i:08d}_000.png" for i in range(200)])

        def model(
            rng: np.random.Generator = rng, targets: np.ndarray = targets, names: np.ndarray = names
        ) -> Predictions:
            logits = rng.normal(size=targets.shape) + targets
            return Predictions(("Mass",), names, np.arange(200), 1 / (1 + np.exp(-logits)), targets)

        method = METHOD.model_copy(update={"resamples": 100})
        found = compare(model(), model(), method).outputs["Mass"]
        values.append((found.p_delong, found.p_patients))
    for p in np.array(values, float).T:
        assert 0.01 <= np.mean(p < 0.05) <= 0.12
        assert 0.35 < np.mean(p) < 0.65


def test_different_images_or_labels_are_refused_by_name() -> None:
    first = random_predictions(100, 40)
    with pytest.raises(UsageError, match=rf"{first.filenames[99]} is in a and not in b \(1 and 0 in all\)"):
        compare(first, first.take(np.arange(99)), METHOD, ("a", "b"))
    other = random_predictions(100, 40)
    other.targets[7, 0] = 1 - other.targets[7, 0]
    with pytest.raises(UsageError, match=f"different labels, first for {first.filenames[7]}"):
        compare(first, other, METHOD)


def test_patient_numbers_may_differ_between_the_two() -> None:
    first = random_predictions(300, 100)
    second = _better(first)
    expected = compare(first, second, METHOD)
    order = np.random.default_rng(0).permutation(len(first))
    renumbered = replace(second, patients=5000 - 7 * second.patients).take(order)
    assert compare(first, renumbered, METHOD) == expected


@pytest.mark.parametrize("kind", ["one more patient", "as many patients"])
def test_another_grouping_of_images_by_patient_is_refused(kind: str) -> None:
    first = random_predictions(300, 100)
    patients = first.patients.copy()
    row = int(np.flatnonzero(patients[1:] == patients[:-1])[3]) + 1  # a later image of some patient
    patients[row] = 999 if kind == "one more patient" else patients[-1]
    said = f"which images are of one patient, first for {first.filenames[row]}"
    with pytest.raises(UsageError, match=f"a and b do not agree on {said}"):
        compare(first, replace(first, patients=patients), METHOD, ("a", "b"))


def test_system_names_are_shortened_to_the_distinct_parts() -> None:
    assert short_names(["runs/a/artifact", "runs/b/artifact"]) == ["a/artifact", "b/artifact"]
    assert short_names(["user/one@v1", "user/two"]) == ["one@v1", "two"]
