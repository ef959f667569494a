"""The options of an evaluation, and its outcome."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from chexvision.artifact.load import Ensemble
from chexvision.artifact.metrics_file import Evaluation, Overlap
from chexvision.config.test_time import Tta
from chexvision.data.decode import Images
from chexvision.evaluation.protocol import System
from chexvision.hub.reference import Reference
from chexvision.label_maps.label_map import LabelMap
from chexvision.labels import LabelSpace
from chexvision.metrics.calibration import Method
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.records import Comparison, IntervalMethod, Record
from chexvision.shards.split_rule import SplitRecord


@dataclass(frozen=True, slots=True)
class FurtherData:
    """A further dataset to measure with what is chosen on the first.

    Args:
        reference: a folder of shards, or a Hub dataset pinned to a sha.
        split: which part of it to measure; "all" for all images.
        split_rule: how to divide it, as `SplitChoice.parse` takes it; None for the split of the models that were
            trained on it, or else the shards' own.
    """

    reference: Reference
    split: str = "test"
    split_rule: str | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """What to evaluate, and how.

    Args:
        split: which part of the data to measure; "all" for all images.
        split_rule: how to divide the images, as `SplitChoice.parse` takes it; None for the models' own split.
        choose_on: the split that thresholds, calibration and weights are chosen on; "model" takes the operating
            points that the model was published with, None makes calls at 0.5 on raw probabilities.
        rule: of `choose_thresholds`.
        calibration: how to calibrate.
        tta: a test-time augmentation to measure as well.
        weights: of an ensemble's members.
        method: how to make intervals.
        expert: a table of other labels for our images, and its map's name.
        external: a table of other images, their folder, and the map's name.
        further: other datasets, measured with what is chosen on this one.
    """

    split: str = "test"
    split_rule: str | None = None
    choose_on: str | None = "validation"
    rule: str = "f1"
    calibration: Method | Literal["none"] = "platt"
    tta: Tta = "none"
    weights: Literal["equal", "validation"] = "equal"
    method: IntervalMethod = field(default_factory=lambda: IntervalMethod(resamples=1000, seed=0))
    expert: tuple[Path, str, LabelMap] | None = None
    external: tuple[Path, Path, str, LabelMap] | None = None
    further: tuple[FurtherData, ...] = ()

    def for_label_space(self, predicted: LabelSpace, labeled: LabelSpace) -> tuple[Options, list[str]]:
        """These options with the targets that the models predict, and a note on the others.

        Args:
            predicted: what all models predict, which external images can have as labels.
            labeled: those of it that the data label, which other labels of the same images are compared with.

        Raises:
            UsageError: a label map has no such target.
        """
        notes: list[str] = []
        changed: dict[str, Any] = {}
        for name, space in (("expert", labeled), ("external", predicted)):
            tables = getattr(self, name)
            if tables is not None:
                label_map, lacking = tables[-1].for_model(space)
                changed[name] = (*tables[:-1], label_map)
                if lacking:
                    notes.append(f"targets of {label_map.name} that the model does not predict: {', '.join(lacking)}")
        return replace(self, **changed), notes


class CompareInput(Record):
    """What an evaluation records of the images it measured; all null or empty for other predictions.

    Args:
        split: which part of its data.
        tta: the test-time augmentation; null where unknown.
        division: how the patients were divided.
        overlaps: which of the images its models were trained on.
    """

    split: str | None = None
    tta: Tta | None = None
    division: SplitRecord | None = None
    overlaps: tuple[Overlap, ...] = ()


class Comparisons(Record):
    """The JSON of ``compare --out``. Format 1 had no such key, and format 2 no `CompareInput.tta`.

    Args:
        format: of the file.
        inputs: what was compared, in the order of the command.
        comparisons: each further one with the first.
    """

    format: Literal[3] = 3
    inputs: tuple[CompareInput, ...]
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """An evaluation and what its report is made from.

    Args:
        evaluation: what was measured.
        systems: what they were measured of, in the same order.
        models: each model with its revision, in words.
        ensemble: the models of the last system as one, with their weights in it; without views.
        images: for each member of `ensemble`, as it takes them, in the order of the predictions.
        elsewhere: of each further dataset of the evaluation, what each system predicted, in the systems' order.
    """

    evaluation: Evaluation
    systems: tuple[System, ...]
    models: tuple[str, ...]
    ensemble: Ensemble
    images: tuple[Images, ...]
    elsewhere: tuple[tuple[Predictions, ...], ...] = ()

    @property
    def main(self) -> System:
        """The last system, which combines all that was asked for."""
        return self.systems[-1]
