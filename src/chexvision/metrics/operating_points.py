"""What is chosen on one split, applied to another, and measured there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chexvision.errors import UsageError
from chexvision.metrics.calibration import Calibration, Method, fit_calibration
from chexvision.metrics.measure import FIXED, measure
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.prior_shift import prior_shift
from chexvision.metrics.ranking import Floats
from chexvision.metrics.records import IntervalMethod, SplitMetrics
from chexvision.metrics.thresholds import ChosenOn, Thresholds, choose_thresholds


@dataclass(frozen=True, slots=True)
class OperatingPoints:
    """How a model's raw probabilities become what it reports: calibrated ones, and calls.

    Args:
        calibration: None leaves probabilities as they are.
        thresholds: on what `calibrate` gives; None calls at `FIXED`.
    """

    calibration: Calibration | None = None
    thresholds: Thresholds | None = None

    def calibrate(self, names: tuple[str, ...], probabilities: Floats) -> Floats:
        """Calibrate float[N, K], whose columns are `names`."""
        return self.calibration.apply(names, probabilities) if self.calibration else probabilities

    def calibrated(self, predictions: Predictions) -> Predictions:
        """The same predictions with calibrated probabilities."""
        return predictions.with_probabilities(self.calibrate(predictions.names, predictions.probabilities))

    def threshold_values(self, names: tuple[str, ...]) -> dict[str, float]:
        """Thresholds by name: the chosen ones, or `FIXED` for all of `names` where none were chosen."""
        return dict.fromkeys(names, FIXED) if self.thresholds is None else self.thresholds.known

    @property
    def rule(self) -> str:
        """Where the thresholds come from, in words."""
        return f"fixed at {FIXED}" if self.thresholds is None else self.thresholds.described

    def measure(self, predictions: Predictions, split: str, method: IntervalMethod | None) -> SplitMetrics:
        """Measure predictions of images that none of this was chosen on.

        Raises:
            UsageError: it was chosen on them.
        """
        for chosen in (self.calibration, self.thresholds):
            if chosen is not None and chosen.chosen_on.images_sha256 == predictions.images_sha256:
                raise UsageError(
                    f"thresholds and calibration were chosen on the very images that they would be applied to, the "
                    f"{split} split; choose them on another split"
                )
        calibrated = self.calibrate(predictions.names, predictions.probabilities)
        measured = measure(
            predictions,
            calibrated=calibrated,
            thresholds=self.threshold_values(predictions.names),
            rule=self.rule,
            calibration=self.calibration.described if self.calibration else "none",
            method=method,
        )
        if self.calibration is None:
            return measured
        shift = prior_shift(predictions, calibrated, self.calibration)
        return measured.model_copy(update={"prior_shift": shift})


def choose_operating_points(
    predictions: Predictions, dataset: str, split: str, rule: str, calibration: Method | Literal["none"]
) -> OperatingPoints:
    """Fit the calibration and choose thresholds on the calibrated probabilities.

    Args:
        predictions: of the split to choose on.
        dataset: what they were predicted for.
        split: which part of it.
        rule: of `choose_thresholds`.
        calibration: "none" for none.
    """
    chosen_on = ChosenOn(
        dataset=dataset, split=split, images=len(predictions), images_sha256=predictions.images_sha256
    )
    fitted = None if calibration == "none" else fit_calibration(predictions, calibration, chosen_on)
    raw = predictions.probabilities
    calibrated = predictions.with_probabilities(fitted.apply(predictions.names, raw) if fitted else raw)
    return OperatingPoints(fitted, choose_thresholds(calibrated, rule, chosen_on, "calibrated" if fitted else "raw"))


def refuse_shared(chosen: Predictions, applied: Predictions) -> None:
    """Raise UsageError if an image or a patient is both in what is chosen on and in what that is applied to."""
    images = set(chosen.filenames.tolist()) & set(applied.filenames.tolist())
    patients = set(chosen.patients.tolist()) & set(applied.patients.tolist())
    if images or patients:
        shared = f"image {min(images)}" if images else f"patient {min(patients)}"
        raise UsageError(
            f"{shared} is in the images that thresholds are chosen on and in those they are applied to "
            f"({len(images)} images and {len(patients)} patients in all); choose on other patients"
        )
