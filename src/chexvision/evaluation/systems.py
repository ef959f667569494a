"""What an evaluation measures: models, their views and ensembles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from chexvision.artifact.load import Ensemble
from chexvision.artifact.metrics_file import OtherSet
from chexvision.config.test_time import Tta
from chexvision.data.decode import decoded_images
from chexvision.data.rows import Rows
from chexvision.data.source import ShardSource
from chexvision.errors import UsageError
from chexvision.evaluation.external import for_other_labels, measure_other, own_labels
from chexvision.evaluation.outcome import Options
from chexvision.evaluation.protocol import System, combined, with_tta
from chexvision.hub.reference import Reference
from chexvision.inference.ensemble import average
from chexvision.inference.labeled import labeled
from chexvision.inference.predict_members import predict_images, predict_members
from chexvision.inference.tta import views_of
from chexvision.label_maps.label_map import LabelMap
from chexvision.label_maps.other_labels import OtherLabels, read_other_labels
from chexvision.metrics.operating_points import OperatingPoints
from chexvision.metrics.predictions import Predictions
from chexvision.models.classifier import CheXVision
from chexvision.predict.operating_files import load_operating_points
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
        models: the same, loaded; one may be an ensemble, which is measured as a whole.
    """

    source: ShardSource
    rows: dict[str, Rows]
    options: Options
    accelerator: Accelerator
    names: tuple[str, ...]
    references: tuple[Reference, ...]
    models: tuple[Ensemble, ...]

    def systems(self, splits: list[str]) -> tuple[System, ...]:
        """Every model by itself, with views where asked for, and all of them together.

        Args:
            splits: the one to measure, then the one to choose operating points on, if any.

        Raises:
            UsageError: thresholds or weights are asked for that nothing can be chosen on.
        """
        alone = [self._predict(i, splits) for i in range(len(self.models))]
        made = self._together(alone, "none")
        if self.options.tta != "none":
            made += self._together([self._predict(i, splits, alone[i]) for i in range(len(alone))], self.options.tta)
        return tuple(made)

    def _together(self, alone: list[list[Predictions]], tta: Tta) -> list[System]:
        """A system per model, and their ensemble where there are several."""
        views = len(views_of(tta, any_size=True))
        return [
            replace(system, points=self._points(system), tta=tta, views=views, name=with_tta(system.name, tta))
            for system in combined(self.names, alone, self.options.weights)
        ]

    def _points(self, system: System) -> OperatingPoints:
        """Those that a model was published with, where these are wanted."""
        if self.options.choose_on != "model":
            return OperatingPoints()
        if len(system.members) > 1:
            raise UsageError("these models together have no thresholds; give --choose-on validation or none")
        points = load_operating_points(self.references[self.names.index(system.name)])
        if points.thresholds is None:
            raise UsageError(f"{system.name} was published without thresholds; give --choose-on validation or none")
        return points

    def ensemble(self, system: System) -> Ensemble:
        """The models of a system as one, with their weights in it; without views."""
        members: list[CheXVision] = []
        weights: list[float] = []
        for name, weight in zip(system.members, system.weights, strict=True):
            model = self.models[self.names.index(name)]
            members += model.members
            weights += [weight * share for share in model.weights]
        return Ensemble(tuple(members), tuple(weights))

    def images(self, ensemble: Ensemble, name: str) -> tuple[NDArray[np.uint8], ...]:
        """The images of split `name` as each member takes them: uint8[N, S, S], memory-mapped."""
        return tuple(self._decoded(member, name) for member in ensemble.members)

    def _decoded(self, member: CheXVision, name: str) -> NDArray[np.uint8]:
        with Progress(f"decoding {name}", len(self.rows[name]), "images") as progress:
            return decoded_images(self.source, self.rows[name], member.preprocessing, progress.advance)

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
            total = len(files) * len(model.members)
            with Progress(f"predicting {label_map.name} with {called}", total, "images") as progress:
                probabilities = predict_images(
                    model, files, self.accelerator, _BATCH, tta=system.tta, on_batch=progress.advance
                )
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

    def _predict(self, i: int, splits: list[str], alone: list[Predictions] | None = None) -> list[Predictions]:
        """Of model `i`: the split to measure, then the one to choose on if there is one.

        Args:
            i: which one.
            splits: their names.
            alone: the same without test-time augmentation, which is used then.
        """
        model, found = self.models[i], []
        for number, name in enumerate(splits):
            rows = self.rows[name]
            for member in model.members:
                self._decoded(member, name)  # with progress; from here on it is in the cache
            tta = "none" if alone is None else self.options.tta
            label = with_tta(f"predicting {name} with {self.names[i]}", tta)
            with Progress(label, len(rows) * len(model.members), "images") as progress:
                probabilities = predict_members(
                    model,
                    self.source,
                    rows,
                    self.accelerator,
                    _BATCH,
                    tta=tta,
                    known=None if alone is None else alone[number].probabilities,
                    on_batch=progress.advance,
                )
            found.append(labeled(rows, probabilities))
        return found
