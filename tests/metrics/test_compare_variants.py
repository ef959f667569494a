"""Variants against a base: with one seed as `compare` does it, with several the mean over them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from chexvision.errors import UsageError
from chexvision.metrics.compare import compare, holm
from chexvision.metrics.compare_variants import compare_variants
from chexvision.metrics.measure import measure
from chexvision.metrics.predictions import Predictions
from tests.evaluation.conftest import METHOD, random_predictions
from tests.present import present

BASE = random_predictions()


def _other(seed: int, gain: float = 0.0) -> Predictions:
    """Other probabilities for the images of `BASE`, in another order."""
    rng = np.random.default_rng(seed)
    logits = np.log(BASE.probabilities / (1 - BASE.probabilities)) + gain * BASE.targets
    noisy = logits + rng.normal(scale=0.5, size=logits.shape)
    return BASE.with_probabilities(1 / (1 + np.exp(-noisy))).take(rng.permutation(len(BASE)))


def test_one_seed_gives_the_macro_difference_of_a_comparison() -> None:
    other = _other(1)
    own, found = compare_variants(("base", [BASE]), {"other": [other]}, METHOD)
    again = compare(BASE, other, METHOD).macro
    estimate, difference = found["other"]
    assert difference.difference == again.difference
    assert (difference.p_delong, difference.p_patients) == (again.p_delong, again.p_patients)
    assert own == measure(BASE, method=METHOD).macro["auroc"]
    assert estimate == pytest.approx(measure(other, method=METHOD).macro["auroc"])


def test_several_seeds_are_averaged_and_their_error_is_smaller() -> None:
    seeds = [_other(seed) for seed in range(4)]
    _, found = compare_variants(("base", [BASE]), {"one": seeds[:1], "four": seeds}, METHOD)
    values = [present(measure(seed).macro_auroc) for seed in seeds]
    estimate, difference = found["four"]
    assert estimate.value == pytest.approx(np.mean(values))
    assert difference.difference.value == pytest.approx(np.mean(values) - present(measure(BASE).macro_auroc))

    def width(name: str) -> float:
        low, high = present(found[name][1].difference.interval)
        return high - low

    assert width("four") < 0.8 * width("one")


def test_p_values_are_adjusted_for_the_number_of_variants() -> None:
    variants = {"same": [BASE], "noisy": [_other(1)], "better": [_other(3, 1.5)]}
    _, found = compare_variants(("base", [BASE]), variants, METHOD)
    same, noisy, better = (of for _, of in found.values())
    assert (same.p_patients, same.p_patients_holm) == (1, 1)
    raw = [present(of.p_patients) for of in (noisy, better)]
    assert min(raw) < 0.001
    assert holm([1, *raw]) == [of.p_patients_holm for of in (same, noisy, better)]
    assert present(better.p_patients_holm) == pytest.approx(3 * present(better.p_patients))


def test_a_base_of_several_seeds_is_paired_with_each_variant() -> None:
    seeds = [_other(seed) for seed in range(2)]
    own, found = compare_variants(("base", seeds), {"same": seeds[::-1]}, METHOD)
    assert found["same"][0] == pytest.approx(own)
    assert found["same"][1].difference.value == pytest.approx(0)
    assert found["same"][1].p_patients == 1


def test_other_images_are_refused() -> None:
    other = _other(1)
    with pytest.raises(UsageError, match="base and other are not of the same images"):
        compare_variants(("base", [BASE]), {"other": [other.take(np.arange(300))]}, METHOD)
    with pytest.raises(UsageError, match="base and other have different labels"):
        compare_variants(("base", [BASE]), {"other": [replace(other, targets=1 - other.targets)]}, METHOD)


def test_nothing_is_estimated_from_too_few_cases() -> None:
    few = BASE.take(np.arange(12))
    own, found = compare_variants(("base", [few]), {"same": [few]}, METHOD)
    assert own.value is None
    assert found["same"][0].value is None
    assert found["same"][1].too_few == "no finding has enough cases"
