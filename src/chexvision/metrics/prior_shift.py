"""Probabilities corrected for findings that are more or less common than where the calibration was fitted.

Where only the prevalence differs, and images with a finding and images without are like before, the odds of
a calibrated probability change by one factor: the new prior odds over the old ones (Elkan, IJCAI 2001). The metrics
after this correction use the prevalence among the labels of the measured images. Whoever has no labels has to
estimate it, so they are the best that the correction can reach, not what a user gets.

Whether the assumption holds shows in the prevalence that it implies: the one that makes the probabilities of these
images most likely, without their labels (Saerens, Latinne and Decaestecker, Neural Computation 2002, who find it by
EM; the likelihood has one maximum, so any search finds the same). Far from the labels' prevalence, the images differ
in more than prevalence, and the correction makes calibration worse. So it does between patients of the release's own
two lists: sicker patients look sicker, and calibrated probabilities have followed already.
"""

from __future__ import annotations

import numpy as np

from chexvision.labels import ABNORMAL
from chexvision.metrics.calibration import Calibration
from chexvision.metrics.measure import macro_of
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.ranking import Floats
from chexvision.metrics.records import OutputShift, PriorShift
from chexvision.metrics.weighted import Measure

_SMALLEST = 1e-9  # an estimated prevalence stays that far from 0 and 1
_RAREST = 1e-6  # nothing is corrected from a prevalence closer to 0 or 1: it was fitted on images of one kind


def corrected(probabilities: Floats, before: float, after: float) -> Floats:
    """Calibrated probabilities float[N] under another prevalence; both prevalences within (0, 1)."""
    present = probabilities * (after / before)
    absent = (1 - probabilities) * ((1 - after) / (1 - before))
    return np.asarray(present / (present + absent), np.float64)


def estimated_prevalence(probabilities: Floats, before: float) -> float:
    """The prevalence that makes these images' calibrated probabilities float[N] most likely, without their labels.

    Args:
        probabilities: calibrated where the prevalence was `before`.
        before: within (0, 1).
    """
    from scipy.optimize import minimize_scalar

    present, absent = probabilities / before, (1 - probabilities) / (1 - before)

    def loss(prevalence: float) -> float:
        return -float(np.mean(np.log(prevalence * present + (1 - prevalence) * absent)))

    found = minimize_scalar(loss, bounds=(_SMALLEST, 1 - _SMALLEST), method="bounded", options={"xatol": 1e-9})
    return float(found.x)


def prior_shift(predictions: Predictions, calibrated: Floats, calibration: Calibration) -> PriorShift | None:
    """How prevalences differ from those the calibration was fitted on, and what correcting for it changes.

    Args:
        predictions: of the measured images.
        calibrated: float[N, K], their probabilities after `calibration`.
        calibration: outputs are left out that it has no curve of, or no prevalence within (1e-6, 1 - 1e-6).

    Returns:
        None where no finding can be corrected.
    """
    names = predictions.names
    before = Measure(predictions, calibrated, only=("brier", "ece"))
    kept = [
        i
        for i, name in enumerate(names)
        if before.too_few[i] is None
        and calibration.curves.get(name)
        and _RAREST < calibration.prevalences.get(name, 0) < 1 - _RAREST
    ]
    findings = [i for i in kept if names[i] != ABNORMAL]
    if not findings:
        return None
    here = {i: float(np.nanmean(predictions.targets[:, i])) for i in kept}
    after = np.array(calibrated, np.float64)
    for i in kept:
        after[:, i] = corrected(calibrated[:, i], calibration.prevalences[names[i]], here[i])
    known = {i: calibrated[~np.isnan(predictions.targets[:, i]), i] for i in kept}
    values = [of.once() for of in (before, Measure(predictions, after, only=("brier", "ece")))]

    def pair(name: str, rows: list[int]) -> tuple[float, float]:
        first, second = (float(macro_of(of[name], rows)[0]) for of in values)
        return first, second

    return PriorShift(
        calibrated_on=calibration.chosen_on.split,
        outputs={
            names[i]: OutputShift(
                calibrated_on=calibration.prevalences[names[i]],
                here=here[i],
                predicted=float(known[i].mean()),
                implied=estimated_prevalence(known[i], calibration.prevalences[names[i]]),
                brier=pair("brier", [i]),
                ece=pair("ece", [i]),
            )
            for i in kept
        },
        macro_findings=len(findings),
        macro_brier=pair("brier", findings),
        macro_ece=pair("ece", findings),
    )
