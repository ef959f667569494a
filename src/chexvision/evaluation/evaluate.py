"""Models on a split of shards: measured, and compared with each other, other labels and the literature."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from chexvision.artifact.contents import RUN, TRAINING_IMAGES, read_run
from chexvision.artifact.load import Ensemble, load_ensemble
from chexvision.artifact.metrics_file import Overlap
from chexvision.artifact.recorded_split import split_for
from chexvision.data.rows import Rows, read_rows, record_split
from chexvision.data.source import ShardSource, find_shards
from chexvision.errors import ChexError, UsageError
from chexvision.evaluation.attributes import conditions_of, read_groups
from chexvision.evaluation.outcome import Options, Outcome
from chexvision.evaluation.overlap import TrainingImages, notes_of
from chexvision.evaluation.protocol import evaluate_systems
from chexvision.evaluation.systems import EvaluationRun
from chexvision.hub.reference import Reference
from chexvision.hub.repo_files import at_commit, model_file
from chexvision.predict.published import trained_on_synthetic


def evaluate(
    models: Sequence[str],
    references: Sequence[Reference],
    data: Reference,
    options: Options,
    accelerator: Accelerator,
) -> Outcome:
    """Evaluate models on a split.

    Args:
        models: what to call each.
        references: where each is, in the same order.
        data: a folder of shards, or a Hub dataset pinned to a sha.
        options: what to do.
        accelerator: of one process.

    Raises:
        UsageError: a model or split is missing, or thresholds would be chosen on the split they are applied to.
        ChexError: data or a model cannot be fetched or read.
    """
    if options.choose_on == options.split:
        raise UsageError(
            f"thresholds are chosen on {options.choose_on} and cannot be applied to {options.split} as well; "
            "choose them on another split (--choose-on train), or make none (--choose-on none)"
        )
    source = find_shards(data)
    options, lacking = options.for_label_space(source.label_space)
    references = [at_commit(reference) for reference in references]  # files of one commit belong together
    choice = split_for(models, references, options.split_rule).fitting(synthetic=source.synthetic)
    rows = read_rows(source.shards, choice, source.label_space)
    splits = _wanted_splits(options, source, rows)
    loaded = [_load(reference, source, accelerator) for reference in references]
    overlaps = [
        _overlap(name, reference, split, rows[split], source)
        for split in splits
        for name, reference in zip(models, references, strict=True)
    ]
    run = EvaluationRun(source, rows, options, accelerator, tuple(models), tuple(references), tuple(loaded))
    conditions = conditions_of(source, options.split, record_split(choice, rows), accelerator.mixed_precision)
    evaluation, systems = evaluate_systems(
        run.systems(splits),
        conditions,
        read_groups(source, rows[options.split]),
        options.method,
        choose_on=str(options.choose_on),
        rule=options.rule,
        calibration=options.calibration,
    )
    others = {
        "expert": run.expert(systems[-1]),
        "external": run.external(systems[-1]),
        "overlaps": tuple(overlaps),
        "notes": (*_synthetic_notes(models, references, source), *lacking, *_notes(overlaps, options)),
    }
    together = run.ensemble(systems[-1])
    described = tuple(map(_described, references))
    images = run.images(together, options.split)
    return Outcome(evaluation.model_copy(update=others), systems, described, together, images)


def _wanted_splits(options: Options, source: ShardSource, rows: dict[str, Rows]) -> list[str]:
    """The split to measure, then the one to choose on if there is one; all of them have images."""
    wanted = [options.split]
    if options.choose_on not in (None, "model"):
        wanted.append(str(options.choose_on))
    for name in wanted:
        if not len(rows.get(name, ())):
            raise UsageError(
                f"{source.name} has no {name} images; it has {', '.join(k for k, v in rows.items() if len(v))}"
            )
    return wanted


def _load(reference: Reference, source: ShardSource, accelerator: Accelerator) -> Ensemble:
    model = load_ensemble(reference)
    if model.label_space != source.label_space:
        raise UsageError(
            f"{reference} predicts {', '.join(model.findings)}, but the labels of {source.name} are "
            f"{', '.join(source.label_space.findings)}; evaluate it on data with its own labels"
        )
    return model.to(accelerator.device)


def _described(reference: Reference) -> str:
    """A model with its revision: the commit of a repository, the run of a folder as far as it records one."""
    if not isinstance(reference, Path):
        return str(reference)
    name, record = reference.resolve().name, model_file(reference, RUN)
    try:
        return name if record is None else f"{name}, run {read_run(record).provenance.run_id}"
    except ChexError:  # an untrusted file: the model counts as one without a record
        return name


def _overlap(name: str, reference: Reference, split: str, rows: Rows, source: ShardSource) -> Overlap:
    """Which of the rows of a split the model was trained on."""
    path = model_file(reference, TRAINING_IMAGES)
    if path is not None:
        return TrainingImages.read(path).overlap(name, split, rows, source)
    patients = len(np.unique(rows.patients))
    return Overlap(
        model=name, split=split, images=len(rows), patients=patients, trained_images=None, trained_patients=None
    )


def _synthetic_notes(models: Sequence[str], references: Sequence[Reference], source: ShardSource) -> Iterator[str]:
    for name, reference in zip(models, references, strict=True):
        if not source.synthetic and trained_on_synthetic(reference):
            yield f"{name} was trained on synthetic images, but measured on radiographs"


def _notes(overlaps: Sequence[Overlap], options: Options) -> Iterator[str]:
    if options.choose_on == "train":
        yield (
            "thresholds and calibration were chosen on train, whose images the models were fitted to: they may not "
            "hold for other images"
        )
    if options.choose_on == "model" and options.tta != "none":
        yield f"thresholds and calibration of the models were chosen without {options.tta}"
    for overlap in overlaps:
        measured = overlap.split == options.split
        yield from notes_of(
            overlap, "measured here" if measured else "that thresholds and calibration were chosen on"
        )
