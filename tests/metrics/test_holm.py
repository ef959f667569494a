"""Holm's adjustment, and where comparisons use it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chexvision.metrics.compare import compare, holm
from tests.evaluation.conftest import METHOD, random_predictions


def test_a_worked_example() -> None:
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == pytest.approx([0.03, 0.06, None, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([None]) == [None]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_adjusted_values_keep_the_order_between_raw_and_bonferroni(raw: list[float]) -> None:
    adjusted = [p for p in holm(raw) if p is not None]
    assert len(adjusted) == len(raw)
    for before, after in zip(raw, adjusted, strict=True):
        assert before <= after <= min(1.0, before * len(raw) + 1e-12) or after == pytest.approx(before)
    order = np.argsort(raw, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)


def test_p_values_of_outputs_are_adjusted_and_that_of_the_mean_is_not() -> None:
    first = random_predictions()
    second = first.with_probabilities(np.clip(first.probabilities + 0.05 * first.targets, 0, 1))
    found = compare(first, second, METHOD)
    of = list(found.outputs.values())
    assert [one.p_delong_holm for one in of] == holm([one.p_delong for one in of])
    assert [one.p_patients_holm for one in of] == holm([one.p_patients for one in of])
    assert any(one.p_delong_holm != one.p_delong for one in of)
    assert found.macro.p_delong is not None
    assert found.macro.p_delong_holm is None
