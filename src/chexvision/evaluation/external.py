"""A model against other labels: radiologists' for our own images, or another hospital's for its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chexvision.artifact.other_results import Agreement, LabelGap, OtherSet
from chexvision.label_maps.other_labels import OtherLabels
from chexvision.metrics.bootstrap import estimate, resample_patients
from chexvision.metrics.measure import macro_columns, macro_of, measure
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.ranking import Floats
from chexvision.metrics.records import MIN_CASES, IntervalMethod
from chexvision.metrics.weighted import Measure


def for_other_labels(
    predictions: Predictions, labels: OtherLabels, probabilities: Floats | None = None
) -> Predictions:
    """A model's outputs for the images of `labels`, in their order, as predictions of their targets.

    Args:
        predictions: of those images, in that order; its own targets are ignored.
        labels: what to predict.
        probabilities: float64[N, K + 1] to use instead of the raw ones.
    """
    scores = _grouped(predictions, labels, predictions.probabilities if probabilities is None else probabilities)
    return Predictions(labels.names, labels.filenames, labels.patients, scores, labels.targets)


def own_labels(predictions: Predictions, labels: OtherLabels) -> Predictions:
    """The model against our own labels, grouped as `labels` groups them: one finding of a target is enough."""
    scores, ours = _grouped(predictions, labels, predictions.probabilities), predictions.targets
    targets = np.where(_grouped(predictions, labels, ours == 1), 1, _grouped(predictions, labels, ours))
    return Predictions(labels.names, predictions.filenames, predictions.patients, scores, targets)


def _grouped(of: Predictions, labels: OtherLabels, values: NDArray[np.generic]) -> Floats:
    """The largest of `values`, [N, K + 1], over the findings of each target."""
    columns = [[of.column(finding) for finding in findings] for findings in labels.findings]
    return np.stack([values[:, index].max(axis=1) for index in columns], axis=1)


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
    """Measure a model against other labels, and for comparison against our own.

    Args:
        name: of the set.
        label_map: the map's name or file.
        there: from `for_other_labels`.
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
    once, resampled, lacks = [], [], []
    for part, how in zip((here, there), methods, strict=True):
        measured = Measure(part, only=("auroc",))
        once.append(measured.once()["auroc"])
        lacks.append(measured.too_few)
        resampled.append(measured.under(resample_patients(measured.patients, how))["auroc"])
    columns = macro_columns(there.names, once[0][:, 0] + once[1][:, 0])

    gaps = {
        target: _gap(
            (target,),
            [part[i] for part in once],
            [part[i] for part in resampled],
            method.level,
            [f"{where}: {part[i]}" for where, part in zip(("here", "there"), lacks, strict=True) if part[i]],
        )
        for i, target in enumerate(there.names)
    }
    macro = _gap(
        tuple(there.names[i] for i in columns),
        [macro_of(part, columns) for part in once],
        [macro_of(part, columns) for part in resampled],
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


def _gap(
    targets: tuple[str, ...], values: list[Floats], draws: list[Floats], level: float, lacks: list[str]
) -> LabelGap:
    """Of float[1] here and there, and the same resampled, float[R]; `lacks` names what has too few cases."""
    here, there = values
    return LabelGap(
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
