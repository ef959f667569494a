"""The comparison of published runs as tables and curves for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from chexvision.evaluation.many_runs.run_comparison import ComparedRun, RunComparison
from chexvision.labels import ABNORMAL
from chexvision.metrics.records import Difference
from chexvision.progress import duration
from chexvision.report.table import Cell, Column, Table, print_table, row
from chexvision.report.wording import output_name, p_text

if TYPE_CHECKING:
    from rich.console import Console

_BARS = "▁▂▃▄▅▆▇█"
_WIDEST = 48  # characters of a curve


def print_run_comparison(console: Console, found: RunComparison) -> None:
    """Runs, what differs in them, their curves, results and tests."""
    for letter, run in zip(_letters(found.runs), found.runs, strict=True):
        console.print(f"{letter}: {run.name}  {'' if run.reference == run.name else run.reference}".rstrip())
        for problem in run.problems:
            console.print(f"   note: {problem}")
    console.print()
    if found.recipe:
        print_table(console, recipe_table(found))
    else:
        console.print("The recipes are the same, or unknown.")
    print_table(console, conditions_table(found))
    lines = list(curve_lines(found.runs))
    if lines:
        console.print("Macro AUROC of validation by epoch", style="bold")
        for line in lines:
            console.print(line, soft_wrap=True)
    print_table(console, results_table(found))
    if found.valid:
        console.print("Valid: all were measured on the same images.")
    for reason in found.why_not:
        console.print(f"not comparable: {reason}")
    for name, reason in found.untested.items():
        if reason not in found.why_not:
            console.print(f"no paired test of {name}: {reason}")


def _letters(runs: Sequence[ComparedRun]) -> list[str]:
    return [chr(ord("A") + i) if i < 26 else str(i + 1) for i in range(len(runs))]


def recipe_table(found: RunComparison) -> Table:
    """The keys of the recipes that differ."""
    columns = (Column(""), *map(Column, _letters(found.runs)))
    rows = (row(key, *(_text(value) for value in values)) for key, values in found.recipe.items())
    return Table("Recipes differ in", columns, tuple(rows))


def _text(value: object) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def conditions_table(found: RunComparison) -> Table:
    """Data, split, epochs and time of each run."""
    columns = (Column(""), *map(Column, _letters(found.runs)))
    rows = {
        "data": [_end(run.dataset) for run in found.runs],
        "measured": [f"{run.images:,} {run.split}" if run.images is not None else "–" for run in found.runs],
        "split rule": [run.split_rule or "–" for run in found.runs],
        "epoch": [_epoch(run) for run in found.runs],
        "training": [duration(run.train_seconds) if run.train_seconds is not None else "–" for run in found.runs],
        "parameters": [f"{run.parameters / 1e6:.1f} M" if run.parameters is not None else "–" for run in found.runs],
        "finished": [run.finished_at[:10] or "–" for run in found.runs],
    }
    return Table("Conditions", columns, tuple(row(name, *cells) for name, cells in rows.items()))


def _end(dataset: str | None) -> str:
    """A dataset's name; commits and folders above it would take the whole line."""
    return "–" if dataset is None else dataset.partition("@")[0].rstrip("/").rpartition("/")[2]


def _epoch(run: ComparedRun) -> str:
    if run.epochs is None:
        return "–"
    return f"{run.epochs}" if run.epoch is None else f"{run.epoch} of {run.epochs}"


def results_table(found: RunComparison) -> Table:
    """AUROC of each run, and the paired difference of two."""
    letters = _letters(found.runs)
    tests = {of.second: of for of in found.comparisons}
    columns, shown = [Column("AUROC")], list(zip(letters, found.runs, strict=True))
    for letter, run in shown:
        columns.append(Column(letter, console="same" if len(shown) == 2 and not tests else "values"))
        if run.name in tests and run is not found.runs[0]:
            columns += [Column(f"{letter} − A"), Column("p")]

    def cells(name: str) -> Iterator[Cell]:
        for run in found.runs:
            yield _value(run, name)
            if run.name in tests and run is not found.runs[0]:
                of = tests[run.name]
                one = of.macro if name == "macro" else of.outputs.get(name, Difference())
                p = one.p_patients if name == "macro" else one.p_patients_holm
                yield Cell(one.difference, 4, signed=True, missing=one.too_few)
                yield Cell(p_text(p))

    names = list(dict.fromkeys(name for run in found.runs for name in run.findings))
    rows = [row("macro", *cells("macro"), emphasis=True), row(output_name(ABNORMAL), *cells(ABNORMAL))]
    rows += [row(name, *cells(name)) for name in names]
    of_datasets = list(dict.fromkeys(name for run in found.runs for name in run.datasets))
    if of_datasets:
        rows += [row(f"macro, {name}", *_on_dataset(found, name)) for name in of_datasets]
    notes = []
    if tests:
        how = found.comparisons[0].interval
        notes.append(
            f"Differences: paired, {how.level:.0%} intervals of {how.resamples:,} resamples of the patients; p: "
            "DeLong's test with patients as clusters, of single outputs with Holm's adjustment. They are about these "
            "trained models: another seed would train others."
        )
    return Table("Results", tuple(columns), tuple(rows), tuple(notes))


def _on_dataset(found: RunComparison, name: str) -> Iterator[Cell]:
    tested = {of.second for of in found.comparisons}
    for i, run in enumerate(found.runs):
        yield Cell(run.datasets.get(name))
        if i and run.name in tested:
            yield from (Cell(""), Cell(""))  # no paired test by dataset


def _value(run: ComparedRun, name: str) -> Cell:
    if name == "macro":
        return Cell(run.macro_auroc)
    return Cell(run.binary_auroc if name == ABNORMAL else run.findings.get(name))


def curve_lines(runs: Sequence[ComparedRun]) -> Iterator[str]:
    """A row of bars for each curve, all on one scale; a mixture has one more for each of its datasets."""
    curves = [(letter, run.curve) for letter, run in zip(_letters(runs), runs, strict=True)]
    for letter, run in zip(_letters(runs), runs, strict=True):
        curves += [(f"{letter}, {name}", of) for name, of in run.dataset_curves.items()]
    known = [value for _, curve in curves for value in curve if value is not None]
    if len(known) < 2:
        return
    low, high = min(known), max(known)
    longest = max(len(curve) for _, curve in curves)
    every = math.ceil(longest / _WIDEST)
    width = max(len(name) for name, _ in curves)
    for name, curve in sorted(curves, key=lambda of: of[0]):
        values = [value for value in curve if value is not None]
        if not values:
            continue
        bars = "".join(_bar(value, low, high) for value in curve[every - 1 :: every])
        best = max(values)
        ends = f"{values[0]:.3f} … {best:.3f} in epoch {curve.index(best) + 1}"
        yield f"{name:{width}} {bars:{longest // every}} {ends}"
    scale = f", every {every}th epoch" if every > 1 else ""
    yield f"{'':{width}} bars from {low:.3f} to {high:.3f}{scale}"


def _bar(value: float | None, low: float, high: float) -> str:
    if value is None:
        return " "
    return _BARS[round((value - low) / (high - low) * (len(_BARS) - 1))] if high > low else _BARS[0]
