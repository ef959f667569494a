"""Models on a split of shards: measured, compared, and beside other labels and published figures."""

from __future__ import annotations

from collections.abc import Sequence

from accelerate import Accelerator
from pydantic import ValidationError

from chexvision import __version__
from chexvision.data.rows import Rows, read_rows
from chexvision.data.source import ShardSource, find_shards
from chexvision.errors import UsageError
from chexvision.evaluation.attributes import read_groups, split_rule
from chexvision.evaluation.compare import compare
from chexvision.evaluation.outcome import Evaluation, Options, Outcome, System, SystemResult
from chexvision.evaluation.published import beside
from chexvision.evaluation.subgroups import measure_subgroups
from chexvision.evaluation.systems import EvaluationRun
from chexvision.evaluation.tta import TTA
from chexvision.hub.load import artifact_file, load_model
from chexvision.hub.reference import Reference
from chexvision.labels import FINDINGS
from chexvision.models.classifier import CheXVision


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
        ChexError: data or a model cannot be had.
    """
    if options.choose_on == options.split:
        raise UsageError(
            f"thresholds are chosen on {options.choose_on} and cannot be applied to {options.split} as well; "
            "choose them on another split (--choose-on train), or make none (--choose-on none)"
        )
    source = find_shards(data)
    rows = read_rows(source.shards, str(options.split_table) if options.split_table else None)
    splits = _wanted_splits(options, source, rows)
    loaded = [_load(reference, accelerator) for reference in references]
    notes = [
        note
        for name, at in zip(models, references, strict=True)
        for note in _training_notes(name, at, source, options)
    ]
    if options.choose_on == "train":
        notes.append(
            "thresholds and calibration were chosen on train, whose images the models were fitted to: they may not "
            "hold for other images"
        )
    run = EvaluationRun(source, rows, options, accelerator, tuple(models), tuple(references), tuple(loaded))
    systems = run.systems(splits)
    results = tuple(_result(system, options) for system in systems)
    first, main = systems[0], systems[-1]
    evaluation = Evaluation(
        version=__version__,
        dataset=source.name,
        dataset_identity=source.identity,
        drawn=source.drawn,
        split=options.split,
        split_rule=split_rule(source, options.split_table),
        precision=accelerator.mixed_precision,
        systems=results,
        comparisons=tuple(
            compare(first.predictions, other.predictions, options.method, (first.name, other.name))
            for other in systems[1:]
        ),
        subgroups=measure_subgroups(
            main.predictions,
            read_groups(source, rows[options.split]),
            options.method,
            main.calibrated.probabilities,
            main.rules.cuts(main.predictions.names),
        ),
        expert=run.expert(main),
        external=run.external(main),
        published=() if source.drawn else beside(results[-1].metrics),
        notes=tuple(notes),
    )
    return Outcome(evaluation, systems, run.images(loaded[0], options.split))


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


def _result(system: System, options: Options) -> SystemResult:
    return SystemResult(
        name=system.name,
        members=system.members,
        weights=system.weights,
        views=len(TTA) if system.tta else 1,
        metrics=system.rules.measure(system.predictions, options.split, options.method),
    )


def _load(reference: Reference, accelerator: Accelerator) -> CheXVision:
    model = load_model(reference)
    if model.findings != FINDINGS:
        raise UsageError(f"{reference} predicts {', '.join(model.findings)}; only the release's 14 can be evaluated")
    return model.to(accelerator.device).eval()


def _training_notes(name: str, reference: Reference, source: ShardSource, options: Options) -> list[str]:
    """Whether the model may have been trained on what it is now measured on."""
    path = artifact_file(reference, "run.json")
    if path is None:
        return [f"{name} does not say what it was trained on; its training may have seen these images"]
    from chexvision.hub.artifact import RunInfo

    try:
        run = RunInfo.model_validate_json(path.read_bytes())
    except ValidationError:
        return [f"{name} does not say what it was trained on; its training may have seen these images"]
    notes = []
    if run.dataset_identity != source.identity:
        before = "other shards" if run.dataset == source.name else run.dataset
        notes.append(f"{name} was trained on {before}, not on these of {source.name}: it may have seen these images")
    elif (run.recipe.data.split_table is None) != (options.split_table is None):
        notes.append(f"{name} was trained with another split of {source.name}: it may have seen these images")
    return notes
