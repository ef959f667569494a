"""Models on splits of shards: measured, and compared with each other, other labels, datasets and the literature."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np

from chexvision.artifact.contents import RUN, TRAINING_IMAGES, read_run
from chexvision.artifact.load import load_ensemble
from chexvision.artifact.metrics_file import Overlap
from chexvision.data.rows import Rows
from chexvision.data.source import ShardSource
from chexvision.errors import ChexError, UsageError
from chexvision.evaluation.across import OnDataset, measure_across
from chexvision.evaluation.attributes import conditions_of, read_groups
from chexvision.evaluation.computing import Compute
from chexvision.evaluation.measured_data import ALL, MeasuredData, Models, dataset_names, open_data
from chexvision.evaluation.outcome import Options, Outcome
from chexvision.evaluation.overlap import TrainingImages, notes_of
from chexvision.evaluation.protocol import System, evaluate_systems
from chexvision.evaluation.systems import EvaluationRun, on_table
from chexvision.hub.reference import Reference
from chexvision.hub.repo_files import at_commit, model_file
from chexvision.label_maps.other_labels import OtherLabels, read_other_labels
from chexvision.metrics.predictions import Predictions
from chexvision.predict.published import trained_on_synthetic


def evaluate(
    models: Sequence[str],
    references: Sequence[Reference],
    data: Reference,
    options: Options,
    compute: Compute,
) -> Outcome:
    """Evaluate models on a split, and on further datasets with what is chosen for it.

    Args:
        models: what to call each.
        references: where each is, in the same order.
        data: a folder of shards, or a Hub dataset pinned to a sha.
        options: what to do.
        compute: where the networks are computed.

    Raises:
        UsageError: a model or split is missing, thresholds would be chosen on the split they are applied to, or a
            dataset labels no finding of the models.
        ChexError: data or a model cannot be fetched or read.
    """
    of = _Inputs.open(models, references, data, options, compute)
    run = EvaluationRun(of.first, of.options, compute, of.models)
    evaluation, systems = evaluate_systems(
        run.systems(of.splits),
        conditions_of(of.first.source, of.options.split, of.first.division, compute.precision),
        read_groups(of.first.source, of.first.measured),
        of.options.method,
        choose_on=str(of.options.choose_on),
        rule=of.options.rule,
        calibration=of.options.calibration,
    )
    found = _on_datasets(run, of.others, systems, of.names)
    shared, results = measure_across(systems, found, of.options.method) if len(found) > 1 else ((), ())
    overlaps = of.overlaps(found[-1])
    parts = {
        "expert": run.expert(systems[-1]),
        "shared_findings": shared,
        "datasets": results,
        "overlaps": tuple(overlaps),
        "notes": tuple(of.notes(overlaps, found)),
    }
    together = run.ensemble(systems[-1])
    return Outcome(
        evaluation.model_copy(update=parts),
        systems,
        models=tuple(map(_described, of.models.references)),
        ensemble=together,
        images=run.images(together, of.options.split),
        elsewhere=tuple(each.predictions for each in found[1:]),
    )


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What an evaluation works on.

    Args:
        models: which.
        first: the dataset that thresholds and calibration are chosen on.
        others: further ones.
        names: of all datasets, for tables.
        options: with the targets that the models predict.
        lacking: notes on the other targets.
    """

    models: Models
    first: MeasuredData
    others: tuple[MeasuredData, ...]
    names: tuple[str, ...]
    options: Options
    lacking: tuple[str, ...]

    @classmethod
    def open(
        cls,
        models: Sequence[str],
        references: Sequence[Reference],
        data: Reference,
        options: Options,
        compute: Compute,
    ) -> _Inputs:
        """Open data and models, and refuse what cannot be measured before anything is predicted; see `evaluate`."""
        if options.choose_on == options.split:
            raise UsageError(
                f"thresholds are chosen on {options.choose_on} and cannot be applied to {options.split} as well; "
                "choose them on another split (--choose-on train), or make none (--choose-on none)"
            )
        if options.split == ALL and options.choose_on not in (None, "model"):
            raise UsageError(
                f"thresholds are chosen on {options.choose_on}, whose images are among all of the first dataset; "
                "take the published ones (--choose-on model) or none (--choose-on none), or measure its test split "
                "(--split test --split all: all of the second)"
            )
        sources = open_data([data, *(of.reference for of in options.further)], compute)
        references = [at_commit(reference) for reference in references]  # files of one commit belong together
        known = Models.of(models, references, [load_ensemble(of).to(compute.device) for of in references])
        first = MeasuredData.of(sources[0], known, options.split, options.split_rule)
        others = tuple(
            MeasuredData.of(source, known, of.split, of.split_rule, further=True)
            for source, of in zip(sources[1:], options.further, strict=True)
        )
        options, lacking = options.for_label_space(known.label_space, first.label_space)
        opened = cls(known, first, others, tuple(dataset_names(sources)), options, tuple(lacking))
        for split in opened.splits:
            first.wanted(split)
        for of in others:
            of.wanted(of.split)
        opened.refuse_own_images()
        return opened

    def refuse_own_images(self) -> None:
        """Raise UsageError where the table of other images has the measured ones, which would not be paired."""
        if self.options.external is None or self.first.source.synthetic:  # whose names are those of radiographs
            return
        path, _, name, label_map = self.options.external
        images = {PurePath(image).name for image in read_other_labels(path, label_map).filenames.tolist()}
        if images <= set(self.first.measured.filenames.tolist()):
            raise UsageError(
                f"--external {path} is of {self.options.split} images of {self.names[0]} itself; other labels of the "
                f"same images are compared by --expert {path} --expert-map {name}"
            )

    @property
    def splits(self) -> list[str]:
        """Of the first dataset, the one to measure, then the one to choose operating points on, if any."""
        chosen_on = self.options.choose_on
        return [self.options.split, *([] if chosen_on in (None, "model") else [str(chosen_on)])]

    def overlaps(self, last: OnDataset) -> list[Overlap]:
        """Which images each model was trained on; `last` may be a table of other images."""
        parts = [(split, self.first.wanted(split), self.first.source, None) for split in self.splits]
        further = zip(self.others, self.names[1:], strict=True)
        measured = [*parts, *((of.split, of.measured, of.source, name) for of, name in further)]
        if last.labels is not None:
            name = last.conditions.name
            measured.append((ALL, _table_rows(last.labels), ShardSource(name, {}, "", synthetic=False), name))
        return [_overlap(self.models, i, *of) for of in measured for i in range(len(self.models.names))]

    def notes(self, overlaps: Sequence[Overlap], found: Sequence[OnDataset]) -> Iterator[str]:
        """What a reader must know; `found` is of all datasets, the last of which may be a table of other images."""
        datasets = [self.first, *self.others]
        yield from _synthetic_notes(self.models, [of.source for of in datasets])
        yield from self.lacking
        yield from _label_notes(self.models, datasets, self.names)
        yield from _shared_image_notes(found)
        yield from _domain_notes(self.models, self.first, self.names[0], several=len(found) > 1)
        yield from _notes(overlaps, self.options)


def _on_datasets(
    run: EvaluationRun, others: Sequence[MeasuredData], systems: Sequence[System], names: Sequence[str]
) -> list[OnDataset]:
    """What the systems predict for every dataset; those of the first are known."""

    def found(of: MeasuredData, name: str, predictions: tuple[Predictions, ...]) -> OnDataset:
        trained = dict(zip(run.models.names, run.models.trained_on_any(of.source.identity), strict=True))
        in_domain = tuple(_any([trained[one] for one in system.members]) for system in systems)
        return OnDataset(of.conditions(name), predictions, in_domain)

    datasets = [found(run.data, names[0], tuple(system.predictions for system in systems))]
    for of, name in zip(others, names[1:], strict=True):
        there = replace(run, data=of)
        datasets.append(found(of, name, there.elsewhere(systems, of.split)))
    if run.options.external is not None:
        datasets.append(on_table(run, systems))
    return datasets


def _any(known: Sequence[bool | None]) -> bool | None:
    return True if True in known else None if None in known else False


def _described(reference: Reference) -> str:
    """A model with its revision: the commit of a repository, the run of a folder as far as it records one."""
    if not isinstance(reference, Path):
        return str(reference)
    name, record = reference.resolve().name, model_file(reference, RUN)
    try:
        return name if record is None else f"{name}, run {read_run(record).provenance.run_id}"
    except ChexError:  # an untrusted file: the model counts as one without a record
        return name


def _overlap(models: Models, i: int, split: str, rows: Rows, source: ShardSource, dataset: str | None) -> Overlap:
    """Which of the rows of a split model `i` was trained on; `dataset` names a further one."""
    path = model_file(models.references[i], TRAINING_IMAGES)
    name = models.names[i]
    if path is not None:
        found = TrainingImages.read(path).overlap(name, split, rows, source)
        return found.model_copy(update={"dataset": dataset})
    return Overlap(
        model=name,
        split=split,
        images=len(rows),
        patients=len(np.unique(rows.patients)),
        trained_images=None,
        trained_patients=None,
        dataset=dataset,
    )


def _table_rows(labels: OtherLabels) -> Rows:
    """The images of a table as `_overlap` takes them: names and patients."""
    names = [PurePath(name).name for name in labels.filenames.tolist()]
    numbers = np.arange(len(names))
    return Rows(
        np.array(names), np.empty((len(names), 0), np.float32), labels.patients, numbers.astype(np.int32), numbers
    )


def _synthetic_notes(models: Models, sources: Sequence[ShardSource]) -> Iterator[str]:
    real = any(not source.synthetic for source in sources)
    for name, reference in zip(models.names, models.references, strict=True):
        if real and trained_on_synthetic(reference):
            yield f"{name} was trained on synthetic images, but measured on radiographs"


def _label_notes(models: Models, datasets: Sequence[MeasuredData], names: Sequence[str]) -> Iterator[str]:
    """What is not measured, because a model does not predict it or a dataset does not label it."""
    for name, model in zip(models.names, models.loaded, strict=True):
        others = [of for of in model.findings if of not in models.outputs]
        if others:
            yield f"findings of {name} that the other models do not predict, which are left out: {', '.join(others)}"
    for of, name in zip(datasets, names, strict=True):
        if of.unlabeled:
            yield f"findings that {name} does not label, which have no values there: {', '.join(of.unlabeled)}"
        if of.unpredicted:
            yield (
                f"findings of {name} that the models do not predict: {', '.join(of.unpredicted)}; there, "
                "normal/abnormal is of all findings that it labels"
            )


def _shared_image_notes(found: Sequence[OnDataset]) -> Iterator[str]:
    """Datasets that share some of their images with the first, which have neither paired nor independent draws."""

    def images(of: OnDataset) -> set[str]:
        return {PurePath(name).name for name in of.predictions[0].filenames.tolist()}

    first = found[0].conditions
    for of in found[1:]:
        here, there = images(found[0]), images(of)
        if here & there and here != there and not (of.conditions.synthetic or first.synthetic):
            yield (
                f"{len(here & there):,} of the {len(there):,} measured images of {of.conditions.name} have names of "
                f"images of {first.name}: the interval of the gap takes them for other images"
            )


def _domain_notes(models: Models, first: MeasuredData, name: str, *, several: bool) -> Iterator[str]:
    """Gaps are to the first dataset, which should be the one that a model was trained on."""
    trained = models.trained_on_any(first.source.identity)
    others = [of for of, known in zip(models.names, trained, strict=True) if known is False]
    if several and others:
        yield f"{', '.join(others)} {'was' if len(others) == 1 else 'were'} not trained on {name}, which gaps are to"


def _notes(overlaps: Sequence[Overlap], options: Options) -> Iterator[str]:
    if options.choose_on == "train":
        yield (
            "thresholds and calibration were chosen on train, whose images the models were fitted to: they may not "
            "hold for other images"
        )
    if options.choose_on == "model" and options.tta != "none":
        yield f"thresholds and calibration of the models were chosen without {options.tta}"
    for overlap in overlaps:
        if overlap.dataset is not None:
            yield from notes_of(overlap, f"of {overlap.dataset}")
        else:
            measured = overlap.split == options.split
            yield from notes_of(
                overlap, "measured here" if measured else "that thresholds and calibration were chosen on"
            )
