"""What is measured, as ``metrics.json`` records it: every value with its conditions."""

from __future__ import annotations

from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from chexvision.metrics.catalog import METRICS

MIN_CASES = 10  # patients with a positive image, and with a negative one, below which nothing is estimated


def reason_if_few(positive_patients: int, negative_patients: int, fewest: int = MIN_CASES) -> str | None:
    """Why an output has no estimates, or None where it has enough cases.

    Cases are patients, because patients are resampled: ten images of one patient are one case.
    """
    if min(positive_patients, negative_patients) >= fewest:
        return None
    return (
        f"positive images of {positive_patients} and negative images of {negative_patients} patients; "
        f"at least {fewest} of each are needed"
    )


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Interval: TypeAlias = tuple[float, float] | None  # both ends; None where too few resamples define the value


class Estimate(Record):
    """A value and its interval, both null where undefined; the interval is null too where none was asked for."""

    value: float | None = None
    interval: Interval = None


UNDEFINED = Estimate()


class IntervalMethod(Record):
    """How intervals were made.

    Args:
        shifted: metrics that resampling itself raises; their intervals are moved back by the mean rise.
    """

    method: str = "percentile bootstrap over patients"
    level: float = 0.95
    resamples: int
    seed: int
    shifted: tuple[str, ...] = Field(default_factory=lambda: tuple(m.name for m in METRICS.values() if m.shifted))


class Estimates(Record):
    """Estimates of `METRICS` by name; one that is missing is undefined."""

    estimates: dict[str, Estimate] = Field(default_factory=dict)

    def __getitem__(self, metric: str) -> Estimate:
        return self.estimates.get(metric, UNDEFINED)


class Decision(Record):
    """A threshold and the calls there: a probability at or above it counts as positive."""

    threshold: float
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int


class FindingMetrics(Estimates):
    """Metrics of one output. All are undefined where it has too few cases; counts are always given.

    Metrics at a threshold are undefined too where 0 is divided by 0.

    Args:
        positives: images whose label names it.
        negatives: images whose label does not.
        unknown: images whose label is unknown; they count nowhere.
        positive_patients: patients with a positive image.
        negative_patients: patients with a negative image.
        too_few: why there are no estimates, see `MIN_CASES`; null where there are.
        decision: calls at the threshold; null where no threshold could be chosen.
    """

    positives: int
    negatives: int
    unknown: int = 0
    positive_patients: int
    negative_patients: int
    too_few: str | None = None
    decision: Decision | None


class MacroMetrics(Estimates):
    """Means over the findings that have enough cases.

    Args:
        findings: how many findings the means run over.
        left_out: the others, which have too few cases.
        fewer: metrics that some of the findings do not have (precision without any call, all calls without a
            threshold), and how many findings their means run over instead.
    """

    findings: int
    left_out: tuple[str, ...]
    fewer: dict[str, int] = Field(default_factory=dict)


class OutputShift(Record):
    """How much more common one output is here than where its calibration was fitted.

    Args:
        calibrated_on: prevalence where it was fitted.
        here: prevalence among the measured images, by their labels.
        predicted: mean calibrated probability here, before any correction.
        implied: prevalence that the probabilities imply without the labels, if images differ in prevalence alone.
        brier: Brier score before and after the odds are corrected for the prevalence here.
        ece: expected calibration error, before and after.
    """

    calibrated_on: float
    here: float
    predicted: float
    implied: float
    brier: tuple[float, float]
    ece: tuple[float, float]

    @property
    def ratio(self) -> float:
        """Prevalence here over prevalence where the calibration was fitted."""
        return self.here / self.calibrated_on


class PriorShift(Record):
    """Prevalences here and where the calibration was fitted, and metrics after a correction for the difference.

    The correction uses the labels of the measured images, so its metrics are the best it can reach. Outputs without
    calibration or with too few cases are left out.

    Args:
        calibrated_on: the split that the calibration was fitted on.
        outputs: by name.
        macro_findings: how many findings the means run over.
        macro_brier: mean Brier score over the findings, before and after.
        macro_ece: mean expected calibration error, before and after.
    """

    calibrated_on: str
    outputs: dict[str, OutputShift]
    macro_findings: int
    macro_brier: tuple[float, float]
    macro_ece: tuple[float, float]

    @property
    def helps(self) -> bool:
        """Whether calibration is better after the correction."""
        return self.macro_ece[1] < self.macro_ece[0] and self.macro_brier[1] < self.macro_brier[0]


class SplitMetrics(Record):
    """All metrics of one set of images.

    Args:
        images: how many.
        patients: how many.
        images_sha256: of the sorted file names, one per line: equal for equal sets of images.
        thresholds: where the thresholds come from, in words.
        calibration: what was done to the probabilities before Brier score, calibration error and decisions.
        interval: how the intervals were made; null where there are none.
        findings: by finding.
        macro: over the findings.
        binary: normal/abnormal; null where nothing predicts it.
        prior_shift: calibration under the prevalences here; null where nothing was calibrated.
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
    prior_shift: PriorShift | None = None

    @property
    def macro_auroc(self) -> float | None:
        """Mean AUROC over `macro.findings` findings."""
        return self.macro["auroc"].value

    @property
    def binary_auroc(self) -> float | None:
        """AUROC of normal/abnormal."""
        return self.binary["auroc"].value if self.binary else None

    @property
    def binary_f1(self) -> float:
        """F1 of normal/abnormal at its threshold; 0 where undefined."""
        return (self.binary["f1"].value or 0.0) if self.binary else 0.0


class GroupFinding(Record):
    """Of one finding within a group; `too_few` is why there is no AUROC, if there is none."""

    positives: int
    auroc: Estimate
    too_few: str | None


class Group(Record):
    """Of the images of one group.

    Args:
        group: such as "F" or "40-59".
        macro_auroc: over the findings that all compared groups of the attribute have enough cases of.
        binary_auroc: of normal/abnormal.
        binary_too_few: why there are no estimates of normal/abnormal, if there are none.
        recall: of normal/abnormal at its threshold.
        specificity: of normal/abnormal at its threshold.
        note: why it is not compared, if it is not.
    """

    group: str
    images: int
    patients: int
    macro_auroc: Estimate
    binary_auroc: Estimate
    binary_too_few: str | None
    recall: Estimate
    specificity: Estimate
    findings: dict[str, GroupFinding]
    note: str | None


class Gap(Record):
    """The highest macro AUROC of a compared group minus the lowest.

    Which groups these are was read off the same data, so interval and p-value are those of a comparison of all
    pairs of groups at once: over all of them, chance yields a p-value below 0.05 in 5 % of data sets.

    Args:
        best: group with the highest macro AUROC.
        worst: group with the lowest.
        difference: between the two; its interval is simultaneous over all pairs of groups, and null where too few
            resamples define it.
        p_value: of the hypothesis that the two do not differ, adjusted for all pairs; null with the interval.
        pairs: how many pairs of groups were compared.
    """

    best: str
    worst: str
    difference: Estimate
    p_value: float | None
    pairs: int


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


class Difference(Record):
    """Of one AUROC, or of their mean.

    Args:
        first: the first model's AUROC.
        second: the second model's.
        difference: second - first, its interval of the paired bootstrap over patients.
        p_delong: of DeLong's test, which takes images for independent.
        p_delong_holm: the same, adjusted by Holm's method for the tests of all outputs; null for their mean.
        p_patients: of the same test with patients as clusters (Obuchowski 1997).
        p_patients_holm: the same, adjusted by Holm's method.
        too_few: why all of these are null, if they are; see `MIN_CASES`.
    """

    first: float | None = None
    second: float | None = None
    difference: Estimate = UNDEFINED
    p_delong: float | None = None
    p_delong_holm: float | None = None
    p_patients: float | None = None
    p_patients_holm: float | None = None
    too_few: str | None = None


class Comparison(Record):
    """Two models on the same images. ``macro`` runs over the findings that have enough cases."""

    first: str
    second: str
    images: int
    patients: int
    images_sha256: str
    interval: IntervalMethod
    macro: Difference
    macro_findings: int
    outputs: dict[str, Difference]
