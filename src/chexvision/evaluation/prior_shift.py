"""Probabilities corrected for findings that are more or less common than where the calibration was fitted.

Where only the prevalence differs, and images with a finding and images without look as they did before, the odds of a
calibrated probability change by one factor: the new prior odds over the old ones (Elkan, IJCAI 2001). The new
prevalence is not read off the labels of the measured images, which nobody has when a model is used. It is estimated
from the probabilities alone, by maximum likelihood (Saerens, Latinne and Decaestecker, Neural Computation 2002, who
find it by EM; the likelihood has one maximum, so any search finds the same). So the figures after the correction are
ones that a hospital can reach with its own unlabelled images. Where images differ in more than prevalence, the
estimate is off, and so is the correction: the labels' prevalence is given beside it.
"""

from __future__ import annotations

import numpy as np

from chexvision.evaluation.calibration import Calibration
from chexvision.evaluation.metrics import Measure, macro_of
from chexvision.evaluation.predictions import Predictions
from chexvision.evaluation.ranking import Floats
from chexvision.evaluation.records import ABNORMAL, OutputShift, PriorShift

_SMALLEST = 1e-9  # an estimated prevalence stays that far from 0 and 1


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
        calibration: it leaves out outputs that it has no curve or prevalence of.

    Returns:
        None where no finding can be corrected.
    """
    after = np.array(calibrated, np.float64)
    estimates: dict[int, float] = {}
    for i, name in enumerate(predictions.names):
        before = calibration.prevalences.get(name)
        if calibration.curves.get(name) is not None and before is not None:
            estimates[i] = estimated_prevalence(calibrated[:, i], before)
            after[:, i] = corrected(calibrated[:, i], before, estimates[i])
    measured = [Measure(predictions, values, only=("brier", "ece")) for values in (calibrated, after)]
    kept = [i for i in estimates if measured[0].too_few[i] is None]
    findings = [i for i in kept if predictions.names[i] != ABNORMAL]
    if not findings:
        return None
    figures = [of.once() for of in measured]

    def pair(name: str, rows: list[int]) -> tuple[float, float]:
        before, after = (float(macro_of(of[name], rows)[0]) for of in figures)
        return before, after

    return PriorShift(
        calibrated_on=calibration.chosen_on.split,
        outputs={
            predictions.names[i]: OutputShift(
                calibrated_on=calibration.prevalences[predictions.names[i]],
                here=float(np.nanmean(predictions.targets[:, i])),
                estimated=estimates[i],
                brier=pair("brier", [i]),
                ece=pair("ece", [i]),
            )
            for i in kept
        },
        macro_findings=len(findings),
        macro_brier=pair("brier", findings),
        macro_ece=pair("ece", findings),
    )
