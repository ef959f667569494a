"""The results of a cross-validation as a table: each way of training, and its difference from the baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from chexvision.bench.bench_report import Figure, Report
from chexvision.bench.bench_report import Row as BenchRow
from chexvision.bench.cross_validation import CrossValidation, Variant
from chexvision.bench.fold_training import SELECTED, WAYS, FoldResult
from chexvision.errors import UsageError
from chexvision.metrics.bootstrap import estimate, resample_patients
from chexvision.metrics.measure import macro_columns, macro_of
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.ranking import Floats
from chexvision.metrics.records import MIN_CASES, Estimate, IntervalMethod
from chexvision.metrics.weighted import Measure
from chexvision.report.table import Cell, Column, Table, row

_METHOD = IntervalMethod(method="percentile bootstrap over patients and seeds", resamples=1000, seed=0)


@dataclass(frozen=True, slots=True)
class WayResult:
    """One way of training, measured on all images by the folds that did not train on them.

    Args:
        variant: its name.
        way: of `WAYS`.
        macros: float64[1 + B] by seed: the macro AUROC, then under each resample of the patients.
        folds: of these seeds.
    """

    variant: str
    way: str
    macros: dict[int, Floats]
    folds: tuple[FoldResult, ...]


def pooled(folds: Sequence[Predictions]) -> Predictions:
    """All folds as one, with probabilities replaced by their ranks within the fold, from 0 to 1.

    Each fold has a network of its own, whose probabilities are not on the scale of another's.
    """
    from scipy.stats import rankdata  # half a second to import

    first = folds[0]
    return Predictions(
        first.names,
        np.concatenate([of.filenames for of in folds]),
        np.concatenate([of.patients for of in folds]),
        np.concatenate([rankdata(of.probabilities, axis=0) / (len(of) + 1) for of in folds]),
        np.concatenate([of.targets for of in folds]),
    )


def measured(
    validation: CrossValidation, variants: Mapping[str, Variant], seeds: Sequence[int]
) -> tuple[list[WayResult], tuple[str, ...]]:
    """Every way of the seeds whose folds are complete, and the findings with too few cases.

    Raises:
        UsageError: no variant has a complete seed.
    """
    ways: list[WayResult] = []
    left_out: tuple[str, ...] = ()
    for name, variant in variants.items():
        complete: dict[int, list[FoldResult]] = {}
        for seed in seeds:
            folds = [validation.result(name, variant, seed, fold) for fold in range(validation.folds)]
            if all(folds):
                complete[seed] = [of for of in folds if of is not None]
        for way in WAYS:
            macros = {}
            for seed, of_folds in complete.items():
                if all(way in of.predictions for of in of_folds):
                    macros[seed], left_out = _macro([of.predictions[way] for of in of_folds])
            if macros:
                trained = tuple(of for seed in macros for of in complete[seed])
                ways.append(WayResult(name, way, macros, trained))
    if not ways:
        raise UsageError(f"{validation.work} has no variant whose {validation.folds} folds are all done")
    return ways, left_out


def _macro(folds: Sequence[Predictions]) -> tuple[Floats, tuple[str, ...]]:
    predictions = pooled(folds)
    measure = Measure(predictions, only=("auroc",))
    once = measure.once()["auroc"]
    columns = macro_columns(predictions.names, once[:, 0])
    resampled = measure.under(resample_patients(measure.patients, _METHOD))["auroc"]
    left_out = [name for name, few in zip(predictions.names, measure.too_few, strict=True) if few is not None]
    return np.concatenate([macro_of(once, columns), macro_of(resampled, columns)]), tuple(left_out)


@dataclass(frozen=True, slots=True)
class Line:
    """One way of training in numbers.

    Args:
        variant: its name.
        way: of `WAYS`.
        seeds: how many have all folds.
        macro_auroc: mean over them.
        difference: from the baseline, over the seeds that both have; None for the baseline.
        spread: standard deviation over seeds of that difference; None with fewer than two.
        validation_auroc: of the selected weights; None where no validation split selected them.
        cpu_seconds: mean of the trainings, validation included.
    """

    variant: str
    way: str
    seeds: int
    macro_auroc: Estimate
    difference: Estimate | None
    spread: float | None
    validation_auroc: float | None
    cpu_seconds: float


def lines_of(ways: Sequence[WayResult], baseline: str) -> list[Line]:
    """Every way, compared with the baseline's selected weights.

    Raises:
        UsageError: the baseline has no complete seed.
    """
    base = next((way for way in ways if (way.variant, way.way) == (baseline, SELECTED)), None)
    if base is None:
        raise UsageError(f"the baseline {baseline} has no seed whose folds are all done")
    return [_line(way, base) for way in ways]


def _line(way: WayResult, base: WayResult) -> Line:
    shared = [] if way is base else [seed for seed in way.macros if seed in base.macros]
    differences = [way.macros[seed] - base.macros[seed] for seed in shared]
    facts = [fold.facts for fold in way.folds]
    validation = float(np.mean([of.validation_auroc for of in facts])) if way.way.startswith(SELECTED) else None
    return Line(
        variant=way.variant,
        way=way.way,
        seeds=len(way.macros),
        macro_auroc=_estimate(list(way.macros.values())),
        difference=_estimate(differences) if shared else None,
        spread=float(np.std([of[0] for of in differences], ddof=1)) if len(shared) > 1 else None,
        validation_auroc=validation,
        cpu_seconds=float(np.mean([of.cpu_seconds for of in facts])),
    )


def _estimate(macros: Sequence[Floats]) -> Estimate:
    """The mean over seeds of float64[1 + B], with an interval over resampled patients and seeds."""
    table = np.stack(macros)
    chosen = np.random.default_rng(_METHOD.seed).integers(0, len(table), (len(table), table.shape[1] - 1))
    resampled = np.take_along_axis(table[:, 1:], chosen, axis=0).mean(axis=0)
    return estimate(float(table[:, 0].mean()), resampled, _METHOD.level)


def table_of(lines: Sequence[Line], validation: CrossValidation, baseline: str, left_out: Sequence[str]) -> Table:
    """The table of `lines_of`: a row for each variant, with the ways side by side."""
    columns = (
        Column("variant"),
        Column("seeds"),
        Column("difference"),
        Column("macro AUROC", short="AUROC", console="values"),
        Column("flip", console="values"),
        Column("last", console="values"),
        Column("average", console="values"),
        Column("validation", short="val."),
        Column("CPU s"),
    )
    by_variant: dict[str, dict[str, Line]] = {}
    for line in lines:
        by_variant.setdefault(line.variant, {})[line.way] = line
    notes = [
        f"Images of {validation.size}², {validation.folds} folds by patient, ranks within a fold pooled. Differences "
        f"of the macro AUROC are from {baseline}. Intervals: {_METHOD.level:.0%}, {_METHOD.method}. flip: with the "
        "mirrored image averaged. last, average: of the last epoch, which validation did not select; its own AUROC "
        "is optimistic where it did. CPU s: mean of a training with its validation."
    ]
    if left_out:
        notes.append(f"Left out of every mean, fewer than {MIN_CASES} patients with it: {', '.join(left_out)}.")
    rows = [
        row(
            name,
            of[SELECTED].seeds,
            Cell(of[SELECTED].difference, signed=True),
            *(of[way].macro_auroc if way in of else None for way in WAYS),
            of[SELECTED].validation_auroc,
            Cell(of[SELECTED].cpu_seconds, digits=0),
        )
        for name, of in by_variant.items()
    ]
    return Table("Cross-validation of recipes", columns, tuple(rows), tuple(notes))


def report_of(lines: Sequence[Line], validation: CrossValidation, baseline: str) -> Report:
    """The same as numbers."""
    settings: dict[str, Figure] = {
        "images": validation.source.name,
        "size": validation.size,
        "folds": validation.folds,
        "baseline": baseline,
    }
    return Report("recipes", settings, [BenchRow(_title(line), dict(_figures(line))) for line in lines])


def _title(line: Line) -> str:
    return line.variant if line.way == SELECTED else f"{line.variant}, {line.way}"


def _figures(line: Line) -> Iterator[tuple[str, Figure]]:
    yield "seeds", line.seeds
    for name, of in (("macro AUROC", line.macro_auroc), ("difference", line.difference)):
        if of is not None and of.value is not None:
            yield name, of.value
            if of.interval is not None:
                yield from zip((f"{name}, low", f"{name}, high"), of.interval, strict=True)
    for name, value in (("s.d. of the difference", line.spread), ("validation AUROC", line.validation_auroc)):
        if value is not None:
            yield name, value
    yield "CPU s", line.cpu_seconds
