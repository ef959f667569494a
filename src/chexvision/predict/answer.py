"""What a model says about one image."""

from __future__ import annotations

from dataclasses import dataclass, field

from chexvision.labels import ABNORMAL


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Which model answers, for every output.

    Args:
        model: ``USER/REPO``, or the folder's name.
        revision: the commit; of a folder the run's id; None where unknown.
        synthetic: whether it was trained on synthetic images.
        calibrated: whether its probabilities are calibrated.
        rule: where its thresholds come from, in words; empty without any.
        run_id: of the run that made it; None where unknown.
    """

    model: str
    revision: str | None = None
    synthetic: bool = False
    calibrated: bool = False
    rule: str = ""
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Probabilities for one image, calibrated where the model was published with a calibration.

    Args:
        image: its name; of images without one, their number in the call.
        probabilities: in [0, 1], of each output: the findings in the model's order, then "Abnormal".
        thresholds: by output; without those that have none.
        model: which model answers.
        notes: what was done to the image, in words.
        warnings: why the answer may not be valid for this image, in words.
    """

    image: str
    probabilities: dict[str, float]
    thresholds: dict[str, float]
    model: ModelFacts
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @property
    def abnormal(self) -> float:
        """That there is any finding."""
        return self.probabilities[ABNORMAL]

    @property
    def calls(self) -> dict[str, bool]:
        """By output: whether the probability reaches the threshold; without outputs that have none."""
        return {name: self.probabilities[name] >= limit for name, limit in self.thresholds.items()}


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be read.

    Args:
        image: its name.
        reason: one line; nothing of a patient.
    """

    image: str
    reason: str
