"""What an evaluation measures: models, their views and ensembles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from chexvision.artifact.load import Ensemble
from chexvision.artifact.other_results import DatasetConditions, OtherSet
from chexvision.config.test_time import Tta
from chexvision.data.decode import Images
from chexvision.errors import UsageError
from chexvision.evaluation.across import OnDataset
from chexvision.evaluation.computing import Compute
from chexvision.evaluation.external import for_other_labels, measure_other, own_labels
from chexvision.evaluation.measured_data import MeasuredData, Models
from chexvision.evaluation.outcome import Options
from chexvision.evaluation.protocol import System, combined, with_tta
from chexvision.inference.ensemble import average
from chexvision.inference.labeled import labeled
from chexvision.inference.tta import views_of
from chexvision.label_maps.other_labels import OtherLabels, read_other_labels
from chexvision.metrics.operating_points import OperatingPoints
from chexvision.metrics.predictions import Predictions
from chexvision.models.classifier import CheXVision
from chexvision.predict.operating_files import load_operating_points


@dataclass(frozen=True, slots=True)
class EvaluationRun:
    """One evaluation: what it works on, and what is predicted with it.

    Args:
        data: the dataset.
        options: what to do.
        compute: where the networks are computed.
        models: which models; one may be an ensemble, which is measured as a whole.
    """

    data: MeasuredData
    options: Options
    compute: Compute
    models: Models

    def systems(self, splits: list[str]) -> tuple[System, ...]:
        """Every model by itself, with views where asked for, and all of them together.

        Args:
            splits: the one to measure, then the one to choose operating points on, if any.

        Raises:
            UsageError: thresholds or weights are asked for that nothing can be chosen on.
        """
        alone = [self._predict(i, splits) for i in range(len(self.models.loaded))]
        made = self._together(alone, "none")
        if self.options.tta != "none":
            made += self._together([self._predict(i, splits, alone[i]) for i in range(len(alone))], self.options.tta)
        return tuple(made)

    def _together(self, alone: list[list[Predictions]], tta: Tta) -> list[System]:
        """A system per model, and their ensemble where there are several."""
        views = len(views_of(tta, any_size=True))
        return [
            replace(system, points=self._points(system), tta=tta, views=views, name=with_tta(system.name, tta))
            for system in combined(self.models.names, alone, self.options.weights)
        ]

    def _points(self, system: System) -> OperatingPoints:
        """Those that a model was published with, where these are wanted."""
        if self.options.choose_on != "model":
            return OperatingPoints()
        if len(system.members) > 1:
            raise UsageError("these models together have no thresholds; give --choose-on validation or none")
        points = load_operating_points(self.models.references[self.models.names.index(system.name)])
        if points.thresholds is None:
            raise UsageError(f"{system.name} was published without thresholds; give --choose-on validation or none")
        return points

    def ensemble(self, system: System) -> Ensemble:
        """The models of a system as one, with their weights in it; without views."""
        members: list[CheXVision] = []
        weights: list[float] = []
        for name, weight in zip(system.members, system.weights, strict=True):
            model = self.models.loaded[self.models.names.index(name)]
            members += model.members
            weights += [weight * share for share in model.weights]
        return Ensemble(tuple(members), tuple(weights))

    def images(self, ensemble: Ensemble, name: str) -> tuple[Images, ...]:
        """The images of split `name` as each member takes them."""
        return tuple(
            self.compute.images(self.data.source, self.data.rows[name], member.preprocessing, name)
            for member in ensemble.members
        )

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
        points = system.points
        calibrated = points.calibrate(here.names, here.probabilities)
        thresholds = points.threshold_values(here.names)
        return measure_other(
            label_map.name,
            name,
            for_other_labels(here, labels),
            own_labels(here, labels),
            self.options.method,
            calibrated=for_other_labels(here, labels, calibrated).probabilities,
            # A threshold is for one output; it does not carry over to the largest of several.
            thresholds={
                target: thresholds[findings[0]]
                for target, findings in zip(labels.names, labels.findings, strict=True)
                if len(findings) == 1 and findings[0] in thresholds
            },
            rule=points.rule,
            calibration=points.calibration.described if points.calibration else "none",
        )

    def elsewhere(self, systems: Sequence[System], split: str) -> tuple[Predictions, ...]:
        """What systems predict for a split of this run's data, with the weights and views that they have.

        Args:
            systems: of a run of the same models on other data.
            split: of this run's data.
        """
        alone = [self._predict(i, [split]) for i in range(len(self.models.loaded))]
        views = alone
        if self.options.tta != "none":
            views = [self._predict(i, [split], alone[i]) for i in range(len(self.models.loaded))]

        def predictions(system: System) -> Predictions:
            parts = alone if system.tta == "none" else views
            return average([parts[self.models.names.index(name)][0] for name in system.members], system.weights)

        return tuple(map(predictions, systems))

    def _predict(self, i: int, splits: list[str], alone: list[Predictions] | None = None) -> list[Predictions]:
        """Of model `i`: the split to measure, then the one to choose on if there is one.

        Args:
            i: which one.
            splits: their names.
            alone: the same without test-time augmentation, which is used then.
        """
        model, found = self.models[i], []
        for number, name in enumerate(splits):
            rows, space = self.data.rows[name], model.loaded.label_space
            tta = "none" if alone is None else self.options.tta
            complete = alone is not None and alone[number].names == space.outputs
            known = alone[number].probabilities if alone is not None and complete else None
            probabilities = self.compute.rows(model, self.data.source, rows, name, tta, known)
            predictions = labeled(rows, probabilities, space)
            found.append(predictions.select(tuple(of for of in self.models.outputs if of in predictions.names)))
        return found


def on_table(run: EvaluationRun, systems: Sequence[System]) -> OnDataset:
    """What systems predict for the images of the run's `Options.external`.

    Raises:
        UsageError: images are missing, or none was given.
    """
    if run.options.external is None:
        raise UsageError("there is no table of other images")
    path, folder, name, label_map = run.options.external
    labels = read_other_labels(path, label_map)
    files = [folder / image for image in labels.filenames.tolist()]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise UsageError(f"{len(missing)} of the {len(files)} images of {path} are missing, first {missing[0]}")

    def predictions(i: int, tta: Tta) -> Predictions:
        model = run.models[i]
        probabilities = run.compute.files(model, files, label_map.name, tta)
        targets = np.full(probabilities.shape, np.nan)
        space = model.loaded.label_space
        of = Predictions(space.outputs, labels.filenames, labels.patients, probabilities, targets)
        return of.select(run.models.outputs)

    alone = {
        tta: [predictions(i, tta) for i in range(len(run.models.loaded))]
        for tta in dict.fromkeys(system.tta for system in systems)
    }
    parts = tuple(
        average([alone[system.tta][run.models.names.index(name)] for name in system.members], system.weights)
        for system in systems
    )
    known = {finding for findings in labels.findings for finding in findings}
    unlabeled = tuple(of for of in run.models.label_space.findings if of not in known)
    conditions = DatasetConditions(
        name=label_map.name, dataset=str(path), split="all", label_map=name, unlabeled=unlabeled
    )
    return OnDataset(conditions, parts, (None,) * len(systems), labels)
