"""Systems on several datasets: each measured with what was chosen on the first, and the gap to it.

A gap's interval is of the bootstrap over patients on both sides. Different images have independent draws; the same
images, as of the same patients under other labels, have the same draws, which pairs them.

The table of training sets and test sets is that of Pooch, Ballester and Barros, "Can we trust deep learning models
diagnosis? The impact of domain shift in chest radiograph classification" (arXiv:1909.01940), and of Cohen, Hashir,
Brooks and Bertrand, "On the limits of cross-domain generalization in automated X-ray prediction" (MIDL 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from chexvision.artifact.other_results import DatasetConditions, DatasetResult, DatasetSystem, LabelGap
from chexvision.evaluation.external import for_other_labels, own_labels
from chexvision.evaluation.protocol import System
from chexvision.label_maps.other_labels import OtherLabels
from chexvision.labels import ABNORMAL
from chexvision.metrics.bootstrap import estimate, resample_patients
from chexvision.metrics.compare import in_order_of
from chexvision.metrics.measure import Sampled, macro_of, sample
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.ranking import Floats
from chexvision.metrics.records import IntervalMethod
from chexvision.metrics.weighted import Measure


@dataclass(frozen=True, slots=True)
class OnDataset:
    """What the systems predicted for one dataset.

    Args:
        conditions: of the dataset; `same_images` is set by `measure_across`.
        predictions: of each system, raw, of the same images in the same order.
        in_domain: for each system whether a model of it was trained on images of this dataset; None where unknown.
        labels: of a table whose targets are predicted from one or several outputs; None where the targets of
            `predictions` are the labels.
    """

    conditions: DatasetConditions
    predictions: tuple[Predictions, ...]
    in_domain: tuple[bool | None, ...]
    labels: OtherLabels | None = None

    def outputs(self) -> dict[str, tuple[str, ...]]:
        """The models' outputs that each measured target is predicted from."""
        if self.labels is None:
            return {name: (name,) for name in self.predictions[0].names}
        return dict(zip(self.labels.names, self.labels.findings, strict=True))


class _Auroc(NamedTuple):
    """An AUROC or a mean of them, NaN where undefined; the same in each resample; why it is undefined."""

    value: float
    draws: Floats
    too_few: str | None


def measure_across(
    systems: Sequence[System], datasets: Sequence[OnDataset], method: IntervalMethod
) -> tuple[tuple[str, ...], tuple[DatasetResult, ...]]:
    """Measure systems on several datasets.

    Args:
        systems: with the operating points that were chosen for the first dataset.
        datasets: at least one. Where another one has the images of the first, they are of the same patients.
        method: how to make intervals; further datasets have seeds of their own.

    Returns:
        The findings that all datasets label with enough cases, and each dataset's results, in order.

    Raises:
        UsageError: two datasets have the same images, and do not agree on which of them are of one patient.
    """
    first, *others = datasets
    aligned = [first, *(_in_order_of(first, other) for other in others)]
    methods = [
        method if of is first or of.conditions.same_images else method.model_copy(update={"seed": method.seed + i})
        for i, of in enumerate(aligned)
    ]
    sampled = [
        [_sample(system, of, i, how) for i, system in enumerate(systems)]
        for of, how in zip(aligned, methods, strict=True)
    ]
    shared = _shared(aligned, [of[0] for of in sampled])
    here = [_Here(first.predictions[i], sampled[0][i], method) for i in range(len(systems))]
    results = []
    for number, (of, measured) in enumerate(zip(aligned, sampled, strict=True)):
        made = [
            _on_first(system, of, i, measured[i], shared)
            if number == 0
            else _elsewhere(system, of, i, measured[i], here[i], shared)
            for i, system in enumerate(systems)
        ]
        results.append(DatasetResult(**dict(of.conditions), systems=tuple(made)))
    return shared, tuple(results)


def _in_order_of(first: OnDataset, other: OnDataset) -> OnDataset:
    """The other dataset; with the first's images in the first's order, and its patient numbers, where it has them."""
    ours, theirs = first.predictions[0], other.predictions[0]
    # Synthetic images share the names of radiographs and of each other.
    identities = {first.conditions.dataset_identity, other.conditions.dataset_identity}
    comparable = not (first.conditions.synthetic or other.conditions.synthetic) or len(identities) == 1
    if other.labels is not None or not comparable or ours.images_sha256 != theirs.images_sha256:
        return other
    names = first.conditions.name, other.conditions.name
    return replace(
        other,
        conditions=other.conditions.model_copy(update={"same_images": True}),
        predictions=tuple(in_order_of(ours, of, names) for of in other.predictions),
    )


def _sample(system: System, of: OnDataset, i: int, method: IntervalMethod) -> Sampled:
    predictions, points = of.predictions[i], system.points
    calibrated = points.calibrate(predictions.names, predictions.probabilities)
    thresholds = points.threshold_values(predictions.names)
    if of.labels is None:
        return sample(predictions, calibrated, thresholds, method)
    # A threshold is for one output; it does not carry over to the largest of several.
    single = {target: outputs[0] for target, outputs in of.outputs().items() if len(outputs) == 1}
    return sample(
        for_other_labels(predictions, of.labels),
        for_other_labels(predictions, of.labels, calibrated).probabilities,
        {target: thresholds[output] for target, output in single.items() if output in thresholds},
        method,
    )


def _shared(datasets: Sequence[OnDataset], sampled: Sequence[Sampled]) -> tuple[str, ...]:
    """The findings that every dataset labels by themselves, with enough cases."""

    def known(of: OnDataset, measured: Sampled) -> set[str]:
        outputs = of.outputs()
        names = [measured.names[i] for i in measured.defined]
        return {name for name in names if outputs[name] == (name,)}

    everywhere = set.intersection(*(known(*pair) for pair in zip(datasets, sampled, strict=True)))
    return tuple(name for name in sampled[0].names if name in everywhere and name != ABNORMAL)


def _on_first(system: System, of: OnDataset, i: int, measured: Sampled, shared: Sequence[str]) -> DatasetSystem:
    return DatasetSystem(
        name=system.name, in_domain=of.in_domain[i], shared=measured.means(_columns(measured, shared))
    )


def _elsewhere(
    system: System, of: OnDataset, i: int, measured: Sampled, here: _Here, shared: Sequence[str]
) -> DatasetSystem:
    gaps = {}
    for target, outputs in of.outputs().items():
        ours = here.auroc(target, outputs)
        if ours is not None:
            gaps[target] = _gap((target,), ours, _auroc(measured, target), here.method)
    columns = _columns(measured, shared)
    points = system.points
    calibration = points.calibration.described if points.calibration else "none"
    return DatasetSystem(
        name=system.name,
        in_domain=of.in_domain[i],
        shared=measured.means(columns),
        metrics=measured.metrics(points.rule, calibration),
        macro=_gap(tuple(shared), here.mean(shared), _mean(measured, columns), here.method),
        gaps=gaps,
    )


def _columns(measured: Sampled, names: Sequence[str]) -> list[int]:
    return [measured.names.index(name) for name in names]


class _Here:
    """The AUROCs of a system on the first dataset.

    Args:
        predictions: raw, of its images.
        sampled: the same, measured.
        method: how to make intervals.
    """

    def __init__(self, predictions: Predictions, sampled: Sampled, method: IntervalMethod) -> None:
        self.method = method
        self._predictions, self._sampled = predictions, sampled

    def auroc(self, target: str, outputs: tuple[str, ...]) -> _Auroc | None:
        """Of a target that is predicted from `outputs`; None where the first dataset does not label all of them."""
        names = self._sampled.names
        if not set(outputs) <= set(names):
            return None
        if len(outputs) == 1:
            return _auroc(self._sampled, outputs[0])
        of = self._predictions
        labels = OtherLabels(of.filenames, of.patients, of.targets[:, :1], (target,), (outputs,))
        measured = Measure(own_labels(of, labels), only=("auroc",))
        draws = measured.under(resample_patients(measured.patients, self.method))["auroc"]
        return _Auroc(float(measured.once()["auroc"][0, 0]), draws[0], measured.too_few[0])

    def mean(self, findings: Sequence[str]) -> _Auroc:
        return _mean(self._sampled, _columns(self._sampled, findings))


def _auroc(measured: Sampled, name: str) -> _Auroc:
    i, draws = measured.names.index(name), measured.draws or {}
    return _Auroc(float(measured.values["auroc"][i, 0]), draws["auroc"][i], measured.measured.too_few[i])


def _mean(measured: Sampled, columns: list[int]) -> _Auroc:
    draws = measured.draws or {}
    value = float(macro_of(measured.values["auroc"], columns)[0])
    return _Auroc(
        value, macro_of(draws["auroc"], columns), None if columns else "no finding has enough cases on both"
    )


def _gap(targets: tuple[str, ...], here: _Auroc, there: _Auroc, method: IntervalMethod) -> LabelGap:
    lacks = [f"{where}: {of.too_few}" for where, of in (("here", here), ("there", there)) if of.too_few]
    return LabelGap(
        targets=targets,
        here=estimate(here.value, here.draws, method.level),
        there=estimate(there.value, there.draws, method.level),
        difference=estimate(there.value - here.value, there.draws - here.draws, method.level),
        too_few="; ".join(lacks) or None,
    )
