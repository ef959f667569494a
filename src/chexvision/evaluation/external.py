"""A model against other labels: radiologists' for our own images, or another hospital's for its own."""

from __future__ import annotations

import numpy as np

from chexvision.evaluation.other_labels import OtherLabels
from chexvision.metrics.bootstrap import estimate, resample_patients
from chexvision.metrics.estimate import Estimate
from chexvision.metrics.measure import macro_columns, macro_of, measure
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.ranking import Floats
from chexvision.metrics.records import MIN_CASES, IntervalMethod, Record, SplitMetrics
from chexvision.metrics.weighted import Measure


class Gap(Record):
    """The AUROC here and there, or the mean over `targets`; ``difference`` is there minus here.

    `too_few` says where and why there is none.
    """

    targets: tuple[str, ...]
    here: Estimate
    there: Estimate
    difference: Estimate
    too_few: str | None = None


class Agreement(Record):
    """How far the release's own labels agree with other labels of the same images.

    Args:
        images: with both labels.
        sensitivity: share of the others' positives that the release names; null with positives of fewer than
            `MIN_CASES` patients.
        precision: share of the release's positives that the others confirm; null likewise.
    """

    images: int
    sensitivity: float | None
    precision: float | None


class OtherSet(Record):
    """A model against other labels.

    Args:
        name: of the set.
        label_map: the map's name or file.
        same_images: whether these are our own images under other labels, or another hospital's.
        metrics: against these labels; unknown ones are masked and counted.
        macro: mean over the targets that have enough cases on both sides.
        gaps: by target. Here is the model against our labels, of the same images where `same_images`.
        agreement: of the labels themselves, where the images are the same.
    """

    name: str
    label_map: str
    same_images: bool
    metrics: SplitMetrics
    macro: Gap
    gaps: dict[str, Gap]
    agreement: dict[str, Agreement]


def answer(predictions: Predictions, labels: OtherLabels, probabilities: Floats | None = None) -> Predictions:
    """A model's outputs for the images of `labels`, in their order, as answers to their targets.

    Args:
        predictions: of those images, in that order; its own targets are not looked at.
        labels: what to answer.
        probabilities: float64[N, K + 1] to use instead of the raw ones.
    """
    scores = predictions.probabilities if probabilities is None else probabilities
    columns = [[predictions.column(finding) for finding in findings] for findings in labels.findings]
    answers = np.stack([scores[:, index].max(axis=1) for index in columns], axis=1)
    return Predictions(labels.names, labels.filenames, labels.patients, answers, labels.targets)


def own_labels(predictions: Predictions, labels: OtherLabels) -> Predictions:
    """The model against our own labels, grouped as `labels` groups them: one finding of a target is enough."""
    columns = [[predictions.column(finding) for finding in findings] for findings in labels.findings]
    scores = np.stack([predictions.probabilities[:, index].max(axis=1) for index in columns], axis=1)
    parts = [predictions.targets[:, index] for index in columns]
    targets = np.stack([np.where((part == 1).any(axis=1), 1, part.max(axis=1)) for part in parts], axis=1)
    return Predictions(labels.names, predictions.filenames, predictions.patients, scores, targets)


def measure_other(
    name: str,
    label_map: str,
    there: Predictions,
    here: Predictions,
    method: IntervalMethod,
    *,
    calibrated: Floats | None = None,
    thresholds: dict[str, float] | None = None,
    rule: str = "none",
    calibration: str = "none",
) -> OtherSet:
    """Measure a model against other labels, and beside it against our own.

    Args:
        name: of the set.
        label_map: the map's name or file.
        there: from `answer`.
        here: from `own_labels`; of the same images in the same order, or of our own set.
        method: how to make intervals.
        calibrated: float[N, K] for `there`.
        thresholds: by name; a target of several findings has none.
        rule: where the thresholds come from.
        calibration: how `calibrated` was made.
    """
    same = there.images_sha256 == here.images_sha256
    # On other patients the two draws must be independent, on the same ones they are paired.
    methods = (method, method if same else method.model_copy(update={"seed": method.seed + 1}))
    once, drawn, lacks = [], [], []
    for part, how in zip((here, there), methods, strict=True):
        measured = Measure(part, only=("auroc",))
        once.append(measured.once()["auroc"])
        lacks.append(measured.too_few)
        drawn.append(measured.under(resample_patients(measured.patients, how))["auroc"])
    columns = macro_columns(there.names, once[0][:, 0] + once[1][:, 0])

    gaps = {
        target: _gap(
            (target,),
            [part[i] for part in once],
            [part[i] for part in drawn],
            method.level,
            [f"{where}: {part[i]}" for where, part in zip(("here", "there"), lacks, strict=True) if part[i]],
        )
        for i, target in enumerate(there.names)
    }
    macro = _gap(
        tuple(there.names[i] for i in columns),
        [macro_of(part, columns) for part in once],
        [macro_of(part, columns) for part in drawn],
        method.level,
        [] if columns else ["no target has enough cases on both sides"],
    )
    return OtherSet(
        name=name,
        label_map=label_map,
        same_images=same,
        metrics=measure(
            there,
            calibrated=calibrated,
            thresholds=thresholds or {},
            rule=rule,
            calibration=calibration,
            method=methods[1],
        ),
        macro=macro,
        gaps=gaps,
        agreement=_agreement(here, there) if same else {},
    )


def _gap(targets: tuple[str, ...], values: list[Floats], draws: list[Floats], level: float, lacks: list[str]) -> Gap:
    """Of float[1] here and there, and the same resampled, float[R]; `lacks` says what has too few cases."""
    here, there = values
    return Gap(
        targets=targets,
        here=estimate(here[0], draws[0], level),
        there=estimate(there[0], draws[1], level),
        difference=estimate(there[0] - here[0], draws[1] - draws[0], level),
        too_few="; ".join(lacks) or None,
    )


def _agreement(here: Predictions, there: Predictions) -> dict[str, Agreement]:
    found = {}
    for i, name in enumerate(there.names):
        known = ~np.isnan(there.targets[:, i]) & ~np.isnan(here.targets[:, i])
        ours, theirs = known & (here.targets[:, i] == 1), known & (there.targets[:, i] == 1)
        both = int((ours & theirs).sum())
        enough = [len(np.unique(here.patients[of])) >= MIN_CASES for of in (theirs, ours)]
        found[name] = Agreement(
            images=int(known.sum()),
            sensitivity=both / int(theirs.sum()) if enough[0] else None,
            precision=both / int(ours.sum()) if enough[1] else None,
        )
    return found
