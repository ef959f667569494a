"""What an evaluation is asked for, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from chexvision.evaluation.external import OtherSet
from chexvision.evaluation.label_map import LabelMap
from chexvision.evaluation.overlap import Overlap
from chexvision.metrics.calibration import Method
from chexvision.metrics.compare import Comparison
from chexvision.metrics.literature import LiteratureComparison
from chexvision.metrics.operating_points import OperatingPoints
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.records import Attribute, IntervalMethod, Record, SplitMetrics
from chexvision.shards.split_rule import SplitRecord


@dataclass(frozen=True, slots=True)
class Options:
    """What to evaluate, and how.

    Args:
        split: which part of the data to measure.
        split_rule: how to divide the images, as `SplitChoice.parse` takes it; None for the models' own split.
        choose_on: the split that thresholds, calibration and weights are chosen on; "model" takes the rules that
            the model was published with, None makes calls at 0.5 on raw probabilities.
        rule: of `choose_thresholds`.
        calibration: how to calibrate.
        tta: also average views of each image.
        weights: of an ensemble's members.
        method: how to make intervals.
        expert: a table of other labels for our images, and its map's name.
        external: tables of other images, their folder, and the map's name.
    """

    split: str = "test"
    split_rule: str | None = None
    choose_on: str | None = "validation"
    rule: str = "f1"
    calibration: Method | Literal["none"] = "platt"
    tta: bool = False
    weights: Literal["equal", "validation"] = "equal"
    method: IntervalMethod = field(default_factory=lambda: IntervalMethod(resamples=1000, seed=0))
    expert: tuple[Path, str, LabelMap] | None = None
    external: tuple[Path, Path, str, LabelMap] | None = None


class SystemResult(Record):
    """A model, a model over several views, or several models as one.

    Args:
        name: for tables.
        members: the models.
        weights: theirs, in the same order.
        views: how many of each image were averaged.
        metrics: on the split.
    """

    name: str
    members: tuple[str, ...]
    weights: tuple[float, ...]
    views: int
    metrics: SplitMetrics


class CompareInput(Record, extra="ignore"):
    """What ``metrics.json`` of an evaluation says of the images it measured; all null or empty for other predictions.

    Args:
        split: which part of its data.
        division: how the patients were divided.
        overlaps: which of the images its models were trained on.
    """

    split: str | None = None
    division: SplitRecord | None = None
    overlaps: tuple[Overlap, ...] = ()


class Comparisons(Record):
    """The JSON of ``compare --out``.

    Args:
        inputs: what was compared, in the order of the command.
        comparisons: each further one with the first.
    """

    inputs: tuple[CompareInput, ...]
    comparisons: tuple[Comparison, ...]


class Evaluation(Record):
    """``metrics.json`` of an evaluation. Everything but `systems` is of the last system.

    Args:
        version: of chexvision.
        dataset: ``USER/NAME@sha``, or the folder's path.
        dataset_identity: equal for shards of equal names and content.
        synthetic: whether its images are synthetic, not taken of patients.
        split: which part of it.
        split_rule: how its patients were divided, or the table; what the manifest says of shards as they lie.
        division: the rule that was asked for, and the images of each split.
        precision: what was computed in.
        systems: the last one combines all that was asked for.
        comparisons: each further system with the first.
        subgroups: by attribute.
        expert: against radiologists' labels.
        external: on another hospital's images.
        published: figures to stand beside.
        overlaps: what each model's training shares with the images measured, and with those chosen on.
        notes: what a reader must know.
    """

    version: str
    dataset: str
    dataset_identity: str
    synthetic: bool
    split: str
    split_rule: str | None
    division: SplitRecord
    precision: str
    systems: tuple[SystemResult, ...]
    comparisons: tuple[Comparison, ...]
    subgroups: tuple[Attribute, ...]
    expert: OtherSet | None
    external: OtherSet | None
    published: tuple[LiteratureComparison, ...]
    overlaps: tuple[Overlap, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class System:
    """What `SystemResult` was measured of: predictions of the split, and the rules chosen on another."""

    name: str
    members: tuple[str, ...]
    weights: tuple[float, ...]
    tta: bool
    predictions: Predictions
    rules: OperatingPoints

    @property
    def calibrated(self) -> Predictions:
        """The predictions of the split, calibrated."""
        raw = self.predictions
        return raw.with_probabilities(self.rules.calibrate(raw.names, raw.probabilities))


@dataclass(frozen=True, slots=True)
class Outcome:
    """An evaluation and what its report draws from.

    Args:
        evaluation: the figures.
        systems: what they were measured of, in the same order.
        images: uint8[N, H, W], in the order of the predictions.
    """

    evaluation: Evaluation
    systems: tuple[System, ...]
    images: NDArray[np.uint8]

    @property
    def main(self) -> System:
        """The last system, which combines all that was asked for."""
        return self.systems[-1]
