"""The parts of ``metrics.json`` on other labels and on further datasets. Needs no numpy."""

from __future__ import annotations

from pydantic import Field

from chexvision.metrics.records import Estimate, MacroMetrics, Record, SplitMetrics
from chexvision.shards.split_rule import SplitRecord


class LabelGap(Record):
    """The AUROC here and there, or the mean over `targets`; ``difference`` is there minus here.

    `too_few` contains where and why there is none.
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
        precision: share of the release's positives that the others confirm; null with positives of too few patients.
    """

    images: int
    sensitivity: float | None
    precision: float | None


class OtherSet(Record):
    """A model against other labels of the measured images.

    Args:
        name: of the set.
        label_map: the map's name or file.
        same_images: true; files before format 5 also had another hospital's images here.
        metrics: against these labels; unknown ones are masked and counted.
        macro: mean over the targets that have enough cases on both sides.
        gaps: by target. Here is the model against our labels.
        agreement: of the labels themselves.
    """

    name: str
    label_map: str
    same_images: bool
    metrics: SplitMetrics
    macro: LabelGap
    gaps: dict[str, LabelGap]
    agreement: dict[str, Agreement]


class DatasetConditions(Record):
    """One of several datasets that systems were measured on.

    Args:
        name: short, for tables.
        dataset: ``USER/NAME@sha``, the folder's path, or the table of labels.
        dataset_identity: equal for shards of equal names and content; null for images with a table of labels.
        synthetic: whether its images are synthetic.
        split: which part of it was measured; "all" for all images.
        split_rule: how its patients were divided; null for images with a table of labels.
        division: the rule that was asked for, and the images of each split.
        label_map: of a table of labels: the map's name or file.
        same_images: whether these are the first dataset's images, so that differences are paired.
        unlabeled: outputs of the models that it does not label.
        unpredicted: its findings that the models do not predict.
    """

    name: str
    dataset: str
    dataset_identity: str | None = None
    synthetic: bool = False
    split: str
    split_rule: str | None = None
    division: SplitRecord | None = None
    label_map: str | None = None
    same_images: bool = False
    unlabeled: tuple[str, ...] = ()
    unpredicted: tuple[str, ...] = ()


class DatasetSystem(Record):
    """One system on one dataset, with the calibration and thresholds that were chosen on the first dataset.

    Args:
        name: of the system.
        in_domain: whether a model of it was trained on images of this dataset; null where that is unknown.
        shared: means over the findings that all datasets label, with enough cases on each.
        metrics: of all outputs that the dataset labels; null of the first dataset, whose metrics are the system's.
        macro: the mean AUROC over the shared findings on the first dataset ("here") and on this one; null of the
            first.
        gaps: the same by output, of those that both label.
    """

    name: str
    in_domain: bool | None = None
    shared: MacroMetrics
    metrics: SplitMetrics | None = None
    macro: LabelGap | None = None
    gaps: dict[str, LabelGap] = Field(default_factory=dict)


class DatasetResult(DatasetConditions):
    """All systems on one dataset."""

    systems: tuple[DatasetSystem, ...]

    def system(self, name: str) -> DatasetSystem | None:
        """The one of a name; None where it was not measured here."""
        return next((of for of in self.systems if of.name == name), None)
