"""What is measured of a run's best weights: chosen on validation, applied to test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chexvision.metrics.calibration import DEFAULT_METHOD
from chexvision.metrics.literature import LiteratureComparison, beside
from chexvision.metrics.measure import measure
from chexvision.metrics.operating_points import OperatingPoints, choose_operating_points
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.records import Attribute, IntervalMethod, SplitMetrics
from chexvision.metrics.subgroups import Groups, measure_subgroups
from chexvision.metrics.thresholds import DEFAULT_RULE

_METHOD = IntervalMethod(resamples=1000, seed=0)


@dataclass(frozen=True, slots=True)
class Final:
    """All that is known of a run's best weights.

    Args:
        splits: figures by split.
        rules: calibration and thresholds, chosen on validation.
        subgroups: of the test split.
        published: figures of others beside the test split's.
    """

    splits: dict[str, SplitMetrics]
    rules: OperatingPoints
    subgroups: tuple[Attribute, ...]
    published: tuple[LiteratureComparison, ...]


def measure_final(predictions: Mapping[str, Predictions], groups: Groups | None, dataset: str) -> Final:
    """Measure predictions of validation and, if there are any, of test.

    Args:
        predictions: by split.
        groups: of the test images.
        dataset: what they were predicted for.
    """
    validation, test = predictions["validation"], predictions.get("test")
    rules = choose_operating_points(validation, dataset, "validation", DEFAULT_RULE, DEFAULT_METHOD)
    splits = {"validation": measure(validation, method=_METHOD)}
    if test is None:
        return Final(splits, rules, (), ())
    splits["test"] = rules.measure(test, "test", _METHOD)
    subgroups = measure_subgroups(
        test,
        groups or {},
        _METHOD,
        rules.calibrate(test.names, test.probabilities),
        rules.cuts(test.names),
    )
    return Final(splits, rules, subgroups, beside(splits["test"]))
