"""What is measured, as ``metrics.json`` and its like record it: every figure with its conditions."""

from __future__ import annotations

from typing import TypeAlias

from pydantic import BaseModel, ConfigDict

ABNORMAL = "Abnormal"  # the name of the 15th output beside the findings

CI: TypeAlias = tuple[float, float] | None  # both ends; null where too few resamples define the figure


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class IntervalMethod(Record):
    """How intervals were made.

    Args:
        shifted: figures that resampling itself raises (repeated images rank alike, and noise adds to a distance);
            their intervals are moved back by the mean rise.
    """

    method: str = "percentile bootstrap over patients"
    level: float = 0.95
    resamples: int
    seed: int
    shifted: tuple[str, ...] = ("auprc", "ece")


class Decision(Record):
    """Calls at a threshold: a probability at or above it counts as positive. Null where 0 is divided by 0."""

    threshold: float
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    f1: float | None
    f1_ci: CI = None
    precision: float | None
    precision_ci: CI = None
    recall: float | None
    recall_ci: CI = None
    specificity: float | None
    specificity_ci: CI = None


class FindingMetrics(Record):
    """Of one finding. AUROC and AUPRC are null where the split holds only one kind of image.

    Args:
        positives: images whose label names it.
        negatives: images whose label does not.
        unknown: images whose label says neither; they count nowhere.
        positive_patients: patients with a positive image.
        auroc: area under the ROC curve, ties counted half.
        auprc: average precision.
        brier: mean squared difference of probability and label.
        ece: expected calibration error in 15 bins of equal width.
        decision: calls at the threshold; null where no threshold could be chosen.
    """

    positives: int
    negatives: int
    unknown: int = 0
    positive_patients: int
    auroc: float | None
    auroc_ci: CI = None
    auprc: float | None
    auprc_ci: CI = None
    brier: float | None
    brier_ci: CI = None
    ece: float | None
    ece_ci: CI = None
    decision: Decision | None


class MacroMetrics(Record):
    """Means over the findings that have both kinds of image.

    Args:
        findings: how many findings the means run over.
        left_out: the others.
    """

    findings: int
    left_out: tuple[str, ...]
    auroc: float | None = None
    auroc_ci: CI = None
    auprc: float | None = None
    auprc_ci: CI = None
    f1: float | None = None
    f1_ci: CI = None
    precision: float | None = None
    precision_ci: CI = None
    recall: float | None = None
    recall_ci: CI = None
    specificity: float | None = None
    specificity_ci: CI = None
    brier: float | None = None
    brier_ci: CI = None
    ece: float | None = None
    ece_ci: CI = None


class SplitMetrics(Record):
    """All figures of one set of images.

    Args:
        images: how many.
        patients: how many.
        images_sha256: of the sorted file names, one a line: equal for equal sets of images.
        thresholds: where the thresholds come from, in words.
        calibration: what was done to the probabilities before Brier score, calibration error and decisions.
        interval: how the intervals were made; null where there are none.
        findings: by finding.
        macro: over the findings.
        binary: normal/abnormal; null where nothing predicts it.
    """

    images: int
    patients: int
    images_sha256: str
    thresholds: str
    calibration: str
    interval: IntervalMethod | None
    macro: MacroMetrics
    binary: FindingMetrics | None
    findings: dict[str, FindingMetrics]

    @property
    def macro_auroc(self) -> float | None:
        """Mean AUROC over `macro_auroc_findings` findings."""
        return self.macro.auroc

    @property
    def macro_auroc_findings(self) -> int:
        """How many findings the mean runs over."""
        return self.macro.findings

    @property
    def binary_auroc(self) -> float | None:
        """AUROC of normal/abnormal."""
        return self.binary.auroc if self.binary else None

    @property
    def binary_f1(self) -> float:
        """F1 of normal/abnormal at its threshold; 0 where undefined."""
        return (self.binary.decision.f1 or 0.0) if self.binary and self.binary.decision else 0.0


class GroupFinding(Record):
    """Of one finding within a group; null where the group holds too few of a kind."""

    positives: int
    auroc: float | None
    auroc_ci: CI


class Group(Record):
    """Of the images of one group.

    Args:
        group: such as "F" or "40-59".
        macro_auroc: over the findings that all compared groups of the attribute hold enough of.
        recall: of normal/abnormal at its threshold.
        specificity: likewise.
        note: why it is not compared, if it is not.
    """

    group: str
    images: int
    patients: int
    macro_auroc: float | None
    macro_auroc_ci: CI
    binary_auroc: float | None
    binary_auroc_ci: CI
    recall: float | None
    recall_ci: CI
    specificity: float | None
    specificity_ci: CI
    findings: dict[str, GroupFinding]
    note: str | None


class Gap(Record):
    """The best compared group's macro AUROC less the worst's, over the same resamples."""

    best: str
    worst: str
    difference: float
    difference_ci: CI


class Attribute(Record):
    """All groups of one attribute.

    Args:
        attribute: "sex", "age", "view" or "follow-up".
        unknown: images of which it is not known.
        macro_findings: what the macro AUROCs run over.
        gap: null with fewer than two groups to compare.
    """

    attribute: str
    unknown: int
    macro_findings: tuple[str, ...]
    groups: tuple[Group, ...]
    gap: Gap | None
