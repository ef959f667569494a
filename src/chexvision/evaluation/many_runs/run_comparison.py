"""Published runs side by side: recipes, conditions and results from their records. Needs no numpy to import."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any, Literal

from chexvision.artifact.published_run import PublishedRun
from chexvision.errors import ChexError
from chexvision.evaluation.many_runs.measured_on import measured_on, numbered_sets, synthetic_part, why_not
from chexvision.hub.reference import Reference
from chexvision.labels import ABNORMAL
from chexvision.metrics.records import UNDEFINED, Comparison, Estimate, IntervalMethod, Record

Value = str | int | float | bool | None

_METHOD = IntervalMethod(resamples=1000, seed=0)
_ROUNDED = 0.0005  # AUROC; probabilities are stored with single precision
_NEEDED = ("numpy", "pyarrow", "scipy")  # to pair predictions


class ComparedRun(Record):
    """One run. Null or empty where its records do not say.

    Args:
        name: what to call it.
        reference: the folder, or ``USER/REPO@sha``.
        run_id: of the run.
        finished_at: ISO 8601 in UTC.
        source: commit or version that it computed with.
        dataset: what was measured.
        dataset_identity: equal for shards of equal names and content.
        test_set: equal for runs whose figures compare: the same images with the same labels; from 1.
        synthetic: whether the measured images are "synthetic", or of a mixture "partly synthetic"; null of patients'.
        split: which part was measured.
        split_rule: how the patients were divided.
        images: how many were measured.
        patients: theirs.
        images_sha256: of the images' names.
        validation_sha256: of the names of the images that the curve is of.
        epochs: that were trained.
        epoch: the one whose weights were measured.
        train_seconds: spent in optimization steps.
        parameters: of its weights.
        macro_auroc: mean over `macro_findings` findings.
        macro_findings: how many.
        binary_auroc: of normal/abnormal.
        findings: AUROC by finding.
        datasets: macro AUROC by dataset, of a mixture.
        curve: macro AUROC of validation by epoch.
        dataset_curves: the same by dataset, of a mixture.
        problems: why something is missing.
    """

    name: str
    reference: str
    run_id: str | None = None
    finished_at: str = ""
    source: str | None = None
    dataset: str | None = None
    dataset_identity: str | None = None
    test_set: int | None = None
    synthetic: str | None = None
    split: str | None = None
    split_rule: str | None = None
    images: int | None = None
    patients: int | None = None
    images_sha256: str | None = None
    validation_sha256: str | None = None
    epochs: int | None = None
    epoch: int | None = None
    train_seconds: float | None = None
    parameters: int | None = None
    macro_auroc: Estimate = UNDEFINED
    macro_findings: int | None = None
    binary_auroc: Estimate = UNDEFINED
    findings: dict[str, Estimate]
    datasets: dict[str, Estimate]
    curve: tuple[float | None, ...]
    dataset_curves: dict[str, tuple[float | None, ...]]
    problems: tuple[str, ...] = ()


class RunComparison(Record):
    """``chexvision runs compare --json``.

    Args:
        format: of the output.
        runs: in the order of the command.
        recipe: keys of the known recipes whose values differ, with the value of each run; null also where a run has
            no such key or no recipe.
        valid: whether all were measured on the same images with the same labels.
        why_not: why they were not, each in a sentence.
        comparisons: each further run with the first, paired by image.
        untested: by run, why there is no paired comparison.
    """

    format: Literal[1] = 1
    runs: tuple[ComparedRun, ...]
    recipe: dict[str, tuple[Value, ...]]
    valid: bool
    why_not: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    untested: dict[str, str]


def compare_runs(
    runs: Sequence[PublishedRun], *, paired: bool, data: Reference | None = None, method: IntervalMethod = _METHOD
) -> RunComparison:
    """Compare published runs.

    Args:
        runs: at least two; differences are from the first.
        paired: whether to test differences, which reads the labels of the data.
        data: where the data are; by default where the first run had them.
        method: how to make intervals.
    """
    reasons = tuple(_differences([run.name for run in runs], runs))
    comparisons, untested = [], {}
    for run in runs[1:]:
        try:
            if not paired:
                raise ChexError("not asked for")
            if found := list(_differences((runs[0].name, run.name), (runs[0], run))):
                raise ChexError(found[0])
            comparisons.append(_paired(runs[0], run, data, method))
        except ChexError as error:
            untested[run.name] = str(error)
    return RunComparison(
        runs=tuple(_compared(run, number) for run, number in zip(runs, numbered_sets(runs), strict=True)),
        recipe=_recipes(runs),
        valid=not reasons,
        why_not=reasons,
        comparisons=tuple(comparisons),
        untested=untested,
    )


def _compared(run: PublishedRun, test_set: int | None) -> ComparedRun:
    of, info = run.metrics, run.info
    parts: dict[str, Any] = {}
    if info is not None:
        source = info.provenance
        parts = {
            "source": source.source_revision + (" with changes" if source.source_dirty else ""),
            "train_seconds": info.train_seconds,
            "dataset": info.dataset,
        }
    if of is not None:
        metrics = of.metrics
        parts |= {
            "dataset": of.dataset,
            "dataset_identity": of.dataset_identity,
            "split": of.split,
            "split_rule": of.split_rule,
            "images": metrics.images,
            "patients": metrics.patients,
            "images_sha256": metrics.images_sha256,
            "validation_sha256": of.validation.images_sha256 if of.validation is not None else None,
            "epoch": of.epoch,
            "macro_auroc": metrics.macro["auroc"],
            "macro_findings": metrics.macro.findings,
            "binary_auroc": metrics.binary["auroc"] if metrics.binary is not None else UNDEFINED,
        }
    names = dict.fromkeys(name for point in run.curve if point.mixture for name in point.mixture.datasets)
    return ComparedRun(
        name=run.name,
        reference=str(run.reference),
        test_set=None if test_set is None else test_set + 1,
        synthetic=synthetic_part(run),
        run_id=run.run_id,
        finished_at=run.finished_at,
        epochs=run.curve[-1].epoch if run.curve else None,
        parameters=run.parameters,
        findings={name: one["auroc"] for name, one in of.metrics.findings.items()} if of is not None else {},
        datasets={part.name: part.metrics.macro["auroc"] for part in of.mixture} if of is not None else {},
        curve=tuple(point.macro_auroc for point in run.curve),
        dataset_curves={
            name: tuple(
                point.mixture.datasets[name].macro_auroc if point.mixture and name in point.mixture.datasets else None
                for point in run.curve
            )
            for name in names
        },
        problems=run.problems,
        **parts,
    )


def _differences(names: Sequence[str], runs: Sequence[PublishedRun]) -> Iterator[str]:
    """Why the results of runs do not compare."""
    measured = [measured_on(run) for run in runs]
    unmeasured = [name for name, of in zip(names, measured, strict=True) if of is None]
    if unmeasured:
        yield f"there are no metrics of {', '.join(unmeasured)}"
    first = measured[0]
    for name, of in zip(names[1:], measured[1:], strict=True):
        if of is not None and first is not None and (reason := why_not(name, of, names[0], first)):
            yield reason


def _paired(first: PublishedRun, second: PublishedRun, data: Reference | None, method: IntervalMethod) -> Comparison:
    """Paired by image, of the probabilities that both published.

    Raises:
        ChexError: there are none, the labels cannot be read, or a run is on a mixture.
    """
    if any(run.info is not None and run.info.datasets for run in (first, second)):
        raise ChexError(
            "runs on mixtures are paired on one data set: chexvision evaluate "
            f"{first.reference} {second.reference} --data DATASET"
        )
    lacking = [name for name in _NEEDED if find_spec(name) is None]
    if lacking:
        raise ChexError(f"it needs {', '.join(lacking)}: pip install 'chexvision[train]'")
    from chexvision.inference.stored_predictions import stored_predictions
    from chexvision.metrics.compare import compare

    names = (first.name, second.name)
    stored = stored_predictions(names, (first.reference, second.reference), data)
    split = first.metrics.split if first.metrics is not None else "test"
    found = [of.get(split) for of in stored.predictions]
    if found[0] is None or found[1] is None:
        raise ChexError(f"they have no probabilities of {split}")
    measured = first.metrics.metrics.images_sha256 if first.metrics is not None else None
    if found[0].images_sha256 != measured:
        raise ChexError(f"their probabilities are of other {split} images than their metrics")
    comparison = compare(found[0], found[1], method, names)
    for run, side in ((first, 0), (second, 1)):
        _check_same_model(run, {name: (of.first, of.second)[side] for name, of in comparison.outputs.items()})
    return comparison


def _check_same_model(run: PublishedRun, aurocs: dict[str, float | None]) -> None:
    """Raise ChexError where the AUROCs of a run's probabilities are not those of its metrics."""
    if run.metrics is None:
        return
    metrics = run.metrics.metrics
    for name, auroc in aurocs.items():
        of = metrics.binary if name == ABNORMAL else metrics.findings.get(name)
        published = of["auroc"].value if of is not None else None
        if auroc is not None and published is not None and abs(auroc - published) > _ROUNDED:
            raise ChexError(
                f"the probabilities of {run.name} have an AUROC of {auroc:.4f} for {name}, its metrics of "
                f"{published:.4f}: they are of another model"
            )


def _recipes(runs: Sequence[PublishedRun]) -> dict[str, tuple[Value, ...]]:
    """The keys whose values differ among the runs whose recipe is known."""
    flat = [dict(_flat(run.info.recipe.model_dump(mode="json"))) if run.info is not None else {} for run in runs]
    keys = list(dict.fromkeys(key for of in flat for key in of))
    values = {key: tuple(of.get(key) for of in flat) for key in keys}
    known = [i for i, of in enumerate(flat) if of]
    return {key: of for key, of in values.items() if any(of[i] != of[known[0]] for i in known)}


def _flat(value: Any, at: str = "") -> Iterator[tuple[str, Value]]:
    """The values in nested tables and lists by their path, such as ``training.phases.0.lr``."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, of in items:
            yield from _flat(of, f"{at}.{key}" if at else str(key))
    else:
        yield at, value
