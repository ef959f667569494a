"""The evaluation protocol, the same at the end of training, in `evaluate` and in `score`.

Operating points are chosen on other images; then the systems are measured, compared with each other, measured on
groups of patients, and compared with the literature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from chexvision.artifact.metrics_file import Conditions, Evaluation, SystemResult
from chexvision.config.test_time import Tta
from chexvision.errors import UsageError
from chexvision.inference.ensemble import average, fit_weights
from chexvision.metrics.calibration import DEFAULT_METHOD, Method
from chexvision.metrics.compare import compare
from chexvision.metrics.literature import compare_with_literature
from chexvision.metrics.measure import measure
from chexvision.metrics.operating_points import OperatingPoints, choose_operating_points, refuse_shared
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.records import IntervalMethod
from chexvision.metrics.subgroups import Groups, measure_subgroups
from chexvision.metrics.thresholds import DEFAULT_RULE

_METHOD = IntervalMethod(resamples=1000, seed=0)


@dataclass(frozen=True, slots=True)
class System:
    """A model, a model over several views, or several models as one.

    Args:
        name: for tables.
        predictions: of the images to measure.
        validation: of the images to choose operating points on; None takes `points` as they are.
        points: calibration and thresholds; by default none, which makes calls at 0.5 on raw probabilities.
        members: the models; by default `name` alone.
        weights: theirs, in the same order.
        tta: the test-time augmentation.
        views: how many of each image were averaged.
    """

    name: str
    predictions: Predictions
    validation: Predictions | None = None
    points: OperatingPoints = field(default_factory=OperatingPoints)
    members: tuple[str, ...] = ()
    weights: tuple[float, ...] = (1.0,)
    tta: Tta = "none"
    views: int = 1

    @property
    def calibrated(self) -> Predictions:
        """The predictions to measure, calibrated."""
        return self.points.calibrated(self.predictions)


def combined(
    names: Sequence[str], alone: Sequence[Sequence[Predictions]], weights: Literal["equal", "validation"]
) -> list[System]:
    """A system per model, and their ensemble, the last one, where there are several.

    Args:
        names: what to call each model.
        alone: of each, the split to measure, then the one to choose operating points on, if any; all of the same
            images in the same order.
        weights: of the ensemble's members: equal, or fitted on the split to choose on.

    Raises:
        UsageError: weights are to be fitted, and there is no split to fit them on.
    """
    systems = [_system(name, parts, (name,), (1.0,)) for name, parts in zip(names, alone, strict=True)]
    if len(alone) > 1:
        if weights == "validation" and len(alone[0]) == 1:
            raise UsageError("--weights validation needs a split to fit them on; give --choose-on validation")
        shares = [1 / len(alone)] * len(alone) if weights == "equal" else fit_weights([parts[1] for parts in alone])
        parts = [average(of, shares) for of in zip(*alone, strict=True)]
        systems.append(_system(f"ensemble of {len(alone)}", parts, tuple(names), tuple(shares)))
    return systems


def _system(name: str, parts: Sequence[Predictions], members: tuple[str, ...], weights: tuple[float, ...]) -> System:
    validation = parts[1] if len(parts) > 1 else None
    return System(name, parts[0], validation, members=members, weights=weights)


def with_tta(name: str, tta: Tta) -> str:
    """What to call a system that uses a test-time augmentation."""
    return name if tta == "none" else f"{name} + {tta}"


def evaluate_systems(
    systems: Sequence[System],
    conditions: Conditions,
    groups: Groups | None = None,
    method: IntervalMethod = _METHOD,
    *,
    choose_on: str = "validation",
    rule: str = DEFAULT_RULE,
    calibration: Method | Literal["none"] = DEFAULT_METHOD,
) -> tuple[Evaluation, tuple[System, ...]]:
    """Measure predictions of the same images.

    Args:
        systems: at least one; the last one is measured by groups and compared with the literature.
        conditions: of the measured images.
        groups: of the measured images.
        method: how to make intervals.
        choose_on: what to call the split that operating points are chosen on.
        rule: of `choose_thresholds`.
        calibration: how to calibrate.

    Returns:
        What was measured, and the systems with the operating points that were chosen.

    Raises:
        UsageError: operating points would be chosen on images or patients that they are applied to.
    """
    chosen = []
    for system in systems:
        if system.validation is not None:
            refuse_shared(system.validation, system.predictions)
            points = choose_operating_points(system.validation, conditions.dataset, choose_on, rule, calibration)
            system = replace(system, points=points)
        chosen.append(system)
    results = tuple(
        SystemResult(
            name=system.name,
            members=system.members or (system.name,),
            weights=system.weights,
            tta=system.tta,
            views=system.views,
            metrics=system.points.measure(system.predictions, conditions.split, method),
        )
        for system in chosen
    )
    first, main = chosen[0], chosen[-1]
    evaluation = Evaluation(
        **dict(conditions),
        systems=results,
        comparisons=tuple(
            compare(first.predictions, other.predictions, method, (first.name, other.name)) for other in chosen[1:]
        ),
        subgroups=measure_subgroups(
            main.predictions,
            groups or {},
            method,
            main.calibrated.probabilities,
            main.points.threshold_values(main.predictions.names),
        ),
        published=() if conditions.synthetic else compare_with_literature(results[-1].metrics),
    )
    return evaluation, tuple(chosen)


def evaluate_trained(
    name: str,
    predictions: Mapping[str, Predictions],
    groups: Groups | None,
    conditions: Conditions,
    method: IntervalMethod = _METHOD,
) -> tuple[Evaluation, OperatingPoints]:
    """Measure a run's best weights on test, or on validation where there is no test split.

    Args:
        name: of the model.
        predictions: by split.
        groups: of the test images.
        conditions: its `split` is set here.
        method: how to make intervals.

    Returns:
        What was measured, and the operating points that were chosen on validation.
    """
    validation, test = predictions["validation"], predictions.get("test")
    if test is None:
        conditions = conditions.model_copy(update={"split": "validation"})
        evaluation, _ = evaluate_systems([System(name, validation)], conditions, None, method)
        evaluation = evaluation.model_copy(update={"validation": evaluation.metrics, "published": ()})
        points = choose_operating_points(validation, conditions.dataset, "validation", DEFAULT_RULE, DEFAULT_METHOD)
        return evaluation, points
    conditions = conditions.model_copy(update={"split": "test"})
    evaluation, (system,) = evaluate_systems([System(name, test, validation)], conditions, groups, method)
    raw = measure(validation, method=method)
    return evaluation.model_copy(update={"validation": raw}), system.points
