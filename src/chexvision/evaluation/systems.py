"""What an evaluation measures: models, their views and ensembles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from chexvision.artifact.load import load_operating_points
from chexvision.artifact.metrics_file import OtherSet
from chexvision.data.dataset import Split
from chexvision.data.decode import decoded_images
from chexvision.data.rows import Rows
from chexvision.data.source import ShardSource
from chexvision.errors import UsageError
from chexvision.evaluation.external import for_other_labels, measure_other, own_labels
from chexvision.evaluation.label_map import LabelMap
from chexvision.evaluation.other_labels import OtherLabels, read_other_labels
from chexvision.evaluation.outcome import Options
from chexvision.evaluation.protocol import System
from chexvision.hub.reference import Reference
from chexvision.inference.ensemble import average, fit_weights
from chexvision.inference.predict_split import as_predictions, predict_paths, predict_split
from chexvision.inference.tta import PLAIN, TTA, View
from chexvision.metrics.operating_points import OperatingPoints
from chexvision.metrics.predictions import Predictions
from chexvision.models.classifier import CheXVision
from chexvision.progress import Progress

_BATCH = 32


@dataclass(frozen=True, slots=True)
class EvaluationRun:
    """One evaluation: what it works on, and what is predicted with it.

    Args:
        source: the shards.
        rows: theirs, by split.
        options: what to do.
        accelerator: of one process.
        names: what to call each model.
        references: where each is, in the same order.
        models: the same, loaded.
    """

    source: ShardSource
    rows: dict[str, Rows]
    options: Options
    accelerator: Accelerator
    names: tuple[str, ...]
    references: tuple[Reference, ...]
    models: tuple[CheXVision, ...]

    def systems(self, splits: list[str]) -> tuple[System, ...]:
        """Every model by itself, with views where asked for, and all of them together.

        Args:
            splits: the one to measure, then the one to choose operating points on, if any.

        Raises:
            UsageError: thresholds or weights are asked for that nothing can be chosen on.
        """
        alone = [self._predict(i, splits) for i in range(len(self.models))]
        made = self._together(alone, False)
        if self.options.tta:
            share = 1 / len(TTA)  # of the view as it is, which is known already
            others = [self._predict(i, splits, TTA[1:]) for i in range(len(self.models))]
            pairs = [zip(*of, strict=True) for of in zip(alone, others, strict=True)]
            made += self._together([[average(pair, (share, 1 - share)) for pair in of] for of in pairs], True)
        return tuple(made)

    def _together(self, alone: list[list[Predictions]], tta: bool) -> list[System]:
        """A system per model, and their ensemble where there are several."""
        groups: list[tuple[tuple[str, ...], tuple[float, ...], list[Predictions]]]
        groups = [((name,), (1.0,), parts) for name, parts in zip(self.names, alone, strict=True)]
        if len(alone) > 1:
            weights = self._weights(alone)
            groups.append((self.names, weights, [average(of, weights) for of in zip(*alone, strict=True)]))
        return [
            System(
                name=(members[0] if len(members) == 1 else f"ensemble of {len(members)}") + (" + TTA" if tta else ""),
                predictions=parts[0],
                validation=parts[1] if len(parts) > 1 else None,
                points=self._points(members),
                members=members,
                weights=weights,
                views=len(TTA) if tta else 1,
            )
            for members, weights, parts in groups
        ]

    def _weights(self, alone: list[list[Predictions]]) -> tuple[float, ...]:
        if self.options.weights == "equal":
            return (1 / len(alone),) * len(alone)
        if len(alone[0]) == 1:
            raise UsageError("--weights validation needs a split to fit them on; give --choose-on validation")
        return tuple(fit_weights([parts[1] for parts in alone]))

    def _points(self, members: tuple[str, ...]) -> OperatingPoints:
        """Those that a model was published with, where these are wanted."""
        if self.options.choose_on != "model":
            return OperatingPoints()
        if len(members) > 1:
            raise UsageError("an ensemble has no thresholds of its own; give --choose-on validation or none")
        points = load_operating_points(self.references[self.names.index(members[0])])
        if points.thresholds is None:
            raise UsageError(f"{members[0]} was published without thresholds; give --choose-on validation or none")
        return points

    def images(self, model: CheXVision, name: str) -> NDArray[np.uint8]:
        """The images of split `name` as `model` takes them: uint8[N, H, W], memory-mapped."""
        with Progress(f"decoding {name}", len(self.rows[name]), "images") as progress:
            return decoded_images(self.source, self.rows[name], model.preprocessing, progress.advance)

    def expert(self, system: System) -> OtherSet | None:
        """The system against other labels of the split's own images; None where none were given.

        Raises:
            UsageError: they name none of these images.
        """
        if self.options.expert is None:
            return None
        path, name, label_map = self.options.expert
        labels = read_other_labels(path, label_map)
        index_of = {image: i for i, image in enumerate(system.predictions.filenames.tolist())}
        known = np.array([Path(image).name in index_of for image in labels.filenames.tolist()], bool)
        if not known.any():
            raise UsageError(f"{path} has labels for none of the {len(index_of)} {self.options.split} images")
        images = [Path(image).name for image in labels.filenames[known].tolist()]
        index = np.array([index_of[image] for image in images], np.int64)
        here = system.predictions.take(index)
        labels = OtherLabels(here.filenames, here.patients, labels.targets[known], labels.names, labels.findings)
        return self._measure_other(system, label_map, name, labels, here, own_labels(here, labels))

    def external(self, system: System) -> OtherSet | None:
        """The system on another hospital's images, compared with the split; None where none were given.

        Raises:
            UsageError: images are missing.
        """
        if self.options.external is None:
            return None
        path, folder, name, label_map = self.options.external
        labels = read_other_labels(path, label_map)
        files = [folder / image for image in labels.filenames.tolist()]
        missing = [file for file in files if not file.is_file()]
        if missing:
            raise UsageError(f"{len(missing)} of the {len(files)} images of {path} are missing, first {missing[0]}")
        members = []
        for model, called in zip(self.models, self.names, strict=True):
            with Progress(f"predicting {label_map.name} with {called}", len(files), "images") as progress:
                views = TTA if system.views > 1 else PLAIN
                probabilities = predict_paths(model, files, self.accelerator, _BATCH, views, progress.advance)
            targets = np.full(probabilities.shape, np.nan)
            members.append(
                Predictions(system.predictions.names, labels.filenames, labels.patients, probabilities, targets)
            )
        chosen = [members[self.names.index(member)] for member in system.members]
        there = average(chosen, system.weights)
        return self._measure_other(system, label_map, name, labels, there, own_labels(system.predictions, labels))

    def _measure_other(
        self,
        system: System,
        label_map: LabelMap,
        name: str,
        labels: OtherLabels,
        there: Predictions,
        here: Predictions,
    ) -> OtherSet:
        points = system.points
        calibrated = points.calibrate(there.names, there.probabilities)
        thresholds = points.threshold_values(there.names)
        return measure_other(
            label_map.name,
            name,
            for_other_labels(there, labels),
            here,
            self.options.method,
            calibrated=for_other_labels(there, labels, calibrated).probabilities,
            # A threshold is for one output; it does not carry over to the largest of several.
            thresholds={
                target: thresholds[findings[0]]
                for target, findings in zip(labels.names, labels.findings, strict=True)
                if len(findings) == 1 and findings[0] in thresholds
            },
            rule=points.rule,
            calibration=points.calibration.described if points.calibration else "none",
        )

    def _predict(self, i: int, splits: list[str], views: Sequence[View] = PLAIN) -> list[Predictions]:
        """Of model `i`: the split to measure, then the one to choose on if there is one."""
        found = []
        for name in splits:
            split = Split(name, self.images(self.models[i], name), self.rows[name])
            label = f"predicting {name} with {self.names[i]}{'' if views == PLAIN else ', turned and flipped'}"
            with Progress(label, len(split), "images") as progress:
                probabilities, _ = predict_split(
                    self.models[i], split, self.accelerator, _BATCH, views=views, on_batch=progress.advance
                )
            found.append(as_predictions(split, probabilities))
        return found
