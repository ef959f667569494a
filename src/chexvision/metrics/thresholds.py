"""Thresholds: chosen on one set of images, applied to another, never to the same."""

from __future__ import annotations

import re
from typing import Literal

import numpy as np

from chexvision.errors import UsageError
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.ranking import Floats
from chexvision.metrics.records import Record

FILE = "thresholds.json"
DEFAULT_RULE = "f1"

_RULE = re.compile(r"^(sensitivity|specificity)=(0?\.\d+|0|1|1\.0*)$")


class ChosenOn(Record):
    """The images that something was chosen on."""

    dataset: str
    split: str
    images: int
    images_sha256: str


class Thresholds(Record):
    """``thresholds.json``: a probability at or above its threshold is called positive.

    Args:
        rule: the criterion: "f1", "youden", "sensitivity=0.9", "specificity=0.95".
        scale: whether they are for calibrated probabilities or raw ones.
        chosen_on: where.
        values: by name; null where the images held only one kind.
        positives: how many images each was chosen from.
    """

    rule: str
    scale: Literal["calibrated", "raw"]
    chosen_on: ChosenOn
    values: dict[str, float | None]
    positives: dict[str, int]

    @property
    def known(self) -> dict[str, float]:
        """The thresholds that there are."""
        return {name: value for name, value in self.values.items() if value is not None}

    @property
    def described(self) -> str:
        """In words, for tables."""
        return f"{self.rule} on {self.chosen_on.split}"


def choose_thresholds(
    predictions: Predictions, rule: str, chosen_on: ChosenOn, scale: Literal["calibrated", "raw"] = "raw"
) -> Thresholds:
    """Choose each column's threshold by `rule`.

    Args:
        predictions: on the probabilities that calls will be made on.
        rule: "f1", "youden", "sensitivity=X" or "specificity=X" with X in [0, 1].
        chosen_on: which images these are.
        scale: whether `predictions` are calibrated.

    Raises:
        UsageError: the rule is unknown.
    """
    check_rule(rule)
    columns = [*zip(predictions.names, predictions.probabilities.T, predictions.targets.T, strict=True)]
    return Thresholds(
        rule=rule,
        scale=scale,
        chosen_on=chosen_on,
        values={name: _choose(scores, targets, rule) for name, scores, targets in columns},
        positives={name: int((targets == 1).sum()) for name, _, targets in columns},
    )


def check_rule(rule: str) -> None:
    """Raise UsageError unless `rule` is one that `choose_thresholds` takes."""
    if rule not in ("f1", "youden") and not _RULE.match(rule):
        raise UsageError(f"unknown threshold rule {rule!r}; write f1, youden, sensitivity=0.9 or specificity=0.95")


def _choose(scores: Floats, targets: Floats, rule: str) -> float | None:
    known = ~np.isnan(targets)
    scores, positive = scores[known], targets[known] == 1
    if not positive.any() or positive.all():
        return None
    order = np.argsort(-scores, kind="stable")
    score = scores[order]
    last = np.append(score[1:] != score[:-1], True)  # of the images with that score: calls change only there
    tp = np.cumsum(positive[order])[last]
    fp = np.cumsum(~positive[order])[last]
    recall, specificity = tp / positive.sum(), 1 - fp / (~positive).sum()
    name, _, wanted = rule.partition("=")
    if name == "f1":
        best = int(np.argmax(2 * tp / (tp + fp + positive.sum())))
    elif name == "youden":
        best = int(np.argmax(recall + specificity))
    elif name == "sensitivity":
        best = int(np.argmax(recall >= float(wanted)))  # the highest that reaches it
    else:
        reached = np.flatnonzero(specificity >= float(wanted))  # the lowest that keeps it
        if not len(reached):
            return float(np.nextafter(score[0], np.inf))
        best = int(reached[-1])
    distinct = score[last]
    # Halfway to the next lower score: there a slightly different rounding calls nothing else.
    return float((distinct[best] + distinct[best + 1]) / 2) if best + 1 < len(distinct) else float(distinct[best])
