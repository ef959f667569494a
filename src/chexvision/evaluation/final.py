"""What is measured of a run's best weights: chosen on validation, applied to test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chexvision.evaluation.calibration import DEFAULT_METHOD
from chexvision.evaluation.figures import calibration_chart, known, pr_chart, roc_chart, title_of
from chexvision.evaluation.judge import Rules, choose_rules
from chexvision.evaluation.metrics import measure
from chexvision.evaluation.predictions import Predictions
from chexvision.evaluation.published import Beside, beside
from chexvision.evaluation.records import Attribute, FindingMetrics, IntervalMethod, SplitMetrics
from chexvision.evaluation.subgroups import Groups, measure_subgroups
from chexvision.evaluation.svg import sheet
from chexvision.evaluation.thresholds import DEFAULT_RULE

_METHOD = IntervalMethod(resamples=1000, seed=0)
_COLUMNS = 5  # charts side by side in a figure


@dataclass(frozen=True, slots=True)
class Final:
    """All that is known of a run's best weights.

    Args:
        splits: figures by split.
        rules: calibration and thresholds, chosen on validation.
        subgroups: of the test split.
        published: figures of others beside the test split's.
        figures: SVG by file name.
    """

    splits: dict[str, SplitMetrics]
    rules: Rules
    subgroups: tuple[Attribute, ...]
    published: tuple[Beside, ...]
    figures: dict[str, str]


def measure_final(predictions: Mapping[str, Predictions], groups: Groups | None, dataset: str) -> Final:
    """Measure predictions of validation and, if there are any, of test.

    Args:
        predictions: by split.
        groups: of the test images.
        dataset: what they were predicted for.
    """
    validation, test = predictions["validation"], predictions.get("test")
    rules = choose_rules(validation, dataset, "validation", DEFAULT_RULE, DEFAULT_METHOD)
    splits = {"validation": measure(validation, method=_METHOD)}
    if test is None:
        return Final(splits, rules, (), (), _charts(validation, Rules(), splits["validation"]))
    splits["test"] = rules.measure(test, "test", _METHOD)
    subgroups = measure_subgroups(
        test,
        groups or {},
        _METHOD,
        rules.calibrate(test.names, test.probabilities),
        rules.cuts(test.names),
    )
    return Final(
        splits,
        rules,
        subgroups,
        beside(splits["test"]),
        _charts(test, rules, splits["test"]),
    )


def _charts(predictions: Predictions, rules: Rules, metrics: SplitMetrics) -> dict[str, str]:
    """ROC, precision-recall and calibration curves of all outputs, a file each."""
    calibrated = predictions.with_probabilities(rules.calibrate(predictions.names, predictions.probabilities))
    drawn: list[tuple[int, str, FindingMetrics]] = []
    for i, name in enumerate(predictions.names):
        of = metrics.findings.get(name, metrics.binary)
        if of is not None and of.positives and of.negatives:
            drawn.append((i, title_of(name), of))
    if not drawn:
        return {}
    charts = {
        "roc.svg": [roc_chart(title, *known(predictions, i), of) for i, title, of in drawn],
        "precision-recall.svg": [pr_chart(title, *known(predictions, i), of) for i, title, of in drawn],
        "calibration.svg": [
            calibration_chart(
                title,
                known(predictions, i)[0],
                known(calibrated, i)[0] if rules.calibration else None,
                known(predictions, i)[1],
            )
            for i, title, _ in drawn
        ],
    }
    return {name: sheet(one, _COLUMNS) for name, one in charts.items()}
