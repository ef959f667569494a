"""What a model says about one image."""

from __future__ import annotations

import html
from dataclasses import dataclass, field

from chexvision.foreign import printable
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

    def __str__(self) -> str:
        """Name and revision on one line."""
        return printable(self.model if self.revision is None else f"{self.model}@{self.revision}")

    @property
    def notices(self) -> tuple[str, ...]:
        """What a reader of any answer must know, in words."""
        synthetic = (
            "The model was trained on synthetic images: what it says about radiographs of patients is not valid."
        )
        calibrated = "The probabilities are not calibrated: the model was published without a calibration."
        return (*([synthetic] if self.synthetic else []), *([] if self.calibrated else [calibrated]))


@dataclass(frozen=True, slots=True)
class Answer:
    """Probabilities for one image, calibrated where the model was published with a calibration.

    As text, and in a notebook, it is a table.

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
    def findings(self) -> dict[str, float]:
        """The probabilities of the findings alone."""
        return {name: value for name, value in self.probabilities.items() if name != ABNORMAL}

    @property
    def calls(self) -> dict[str, bool]:
        """By output: whether the probability reaches the threshold; without outputs that have none."""
        return {name: self.probabilities[name] >= limit for name, limit in self.thresholds.items()}

    def __str__(self) -> str:
        """A table, the binary output first, and everything that was noted."""
        width = max(len(name) for name in self.probabilities)
        rows = [
            f"{name:{width}}  {probability:>11}  {threshold:>9}  {call}".rstrip()
            for name, probability, threshold, call in [_HEADS, *self._cells()]
        ]
        return "\n".join([printable(self.image), *rows, *self._remarks()])

    def _repr_html_(self) -> str:
        heads = "".join(f"<th>{head}</th>" for head in _HEADS)
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>" for cells in self._cells()
        )
        remarks = "<br>".join(html.escape(line) for line in self._remarks())
        return (
            f"<table><caption>{html.escape(printable(self.image))}</caption><tr>{heads}</tr>{rows}</table>{remarks}"
        )

    def _cells(self) -> list[tuple[str, str, str, str]]:
        calls = self.calls
        names = sorted(self.probabilities, key=lambda name: name != ABNORMAL)  # stable: the findings keep their order
        return [
            (
                name,
                f"{self.probabilities[name]:.3f}",
                f"{self.thresholds[name]:.3f}" if name in calls else "",
                "positive" if calls.get(name) else "",
            )
            for name in names
        ]

    def _remarks(self) -> list[str]:
        calibrated = "calibrated" if self.model.calibrated else "not calibrated"
        rule = f", thresholds: {self.model.rule}" if self.model.rule else ", no thresholds"
        lines = [
            *(f"Warning: {text}" for text in self.warnings),
            *(f"Image: {text}" for text in self.notes),
            f"Model: {self.model}, {calibrated}{rule}",
            *self.model.notices,
            "For research only, not a diagnosis.",
        ]
        return [printable(line) for line in lines]


_HEADS = ("", "probability", "threshold", "")


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be read.

    Args:
        image: its name.
        reason: one line; nothing of a patient.
    """

    image: str
    reason: str
