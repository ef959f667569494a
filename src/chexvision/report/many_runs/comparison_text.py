"""The comparison of published runs as tables and curves for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from chexvision.evaluation.many_runs.run_comparison import ComparedRun, RunComparison
from chexvision.labels import ABNORMAL
from chexvision.metrics.records import Difference, Estimate
from chexvision.progress import duration
from chexvision.report.table import Cell, Column, Row, Table, print_table, row
from chexvision.report.wording import output_name, p_text

if TYPE_CHECKING:
    from rich.console import Console

_BARS = "▁▂▃▄▅▆▇█"
_WIDEST = 48  # characters of a curve
# Runs in a table that has a column for each: a console has 80 characters.
_RECIPES, _RESULTS = 4, 8


def print_run_comparison(console: Console, found: RunComparison) -> None:
    """Runs, what differs in them, their curves, results and tests."""
    for letter, run in zip(_letters(found.runs), found.runs, strict=True):
        console.print(f"{letter}: {run.name}  {'' if run.reference == run.name else run.reference}".rstrip())
        for problem in run.problems:
            console.print(f"   note: {problem}")
    console.print()
    if not found.recipe:
        console.print("The recipes are the same, or unknown.")
    for table in (*recipe_tables(found), conditions_table(found)):
        print_table(console, table)
    lines = list(curve_lines(found.runs))
    if lines:
        console.print("Macro AUROC of validation by epoch", style="bold")
        for line in lines:
            console.print(line, soft_wrap=True)
        validated = {run.validation_sha256 for run in found.runs if run.curve}
        if None in validated or len(validated) > 1:
            console.print("Not all curves are known to be of the same validation images.")
    for table in (macro_table(found), *output_tables(found)):
        print_table(console, table)
    if found.valid:
        console.print("Valid: all were measured on the same images.")
    for reason in found.why_not:
        console.print(f"not comparable: {reason}")
    for name, reason in found.untested.items():
        if reason not in found.why_not:
            console.print(f"no paired test of {name}: {reason}")


def _letters(runs: Sequence[ComparedRun]) -> list[str]:
    return [chr(ord("A") + i) if i < 26 else str(i + 1) for i in range(len(runs))]


def recipe_tables(found: RunComparison) -> Iterator[Table]:
    """The keys of the recipes that differ, for a few runs at a time."""
    letters = _letters(found.runs)
    for start in range(0, len(letters) if found.recipe else 0, _RECIPES):
        part = slice(start, start + _RECIPES)
        columns = (Column(""), *(Column(letter, wraps=True) for letter in letters[part]))
        rows = (row(key, *map(_text, values[part])) for key, values in found.recipe.items())
        yield Table("Recipes differ in", columns, tuple(rows))


def _text(value: object) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def conditions_table(found: RunComparison) -> Table:
    """Data, split, epochs and time of each run."""
    wrapping, others = ("data", "split rule"), ("epoch", "training", "parameters", "finished")
    columns = (Column(""), *(Column(name, wraps=True) for name in wrapping), *map(Column, others))
    rows = (
        row(
            letter,
            _end(run.dataset),
            run.split_rule or "–",
            _epoch(run),
            duration(run.train_seconds) if run.train_seconds is not None else "–",
            f"{run.parameters / 1e6:.1f} M" if run.parameters is not None else "–",
            run.finished_at[:10] or "–",
        )
        for letter, run in zip(_letters(found.runs), found.runs, strict=True)
    )
    return Table("Conditions", columns, tuple(rows))


def _end(dataset: str | None) -> str:
    """A dataset's name; commits and folders above it would take the whole line."""
    return "–" if dataset is None else dataset.partition("@")[0].rstrip("/").rpartition("/")[2]


def _epoch(run: ComparedRun) -> str:
    if run.epochs is None:
        return "–"
    return f"{run.epochs}" if run.epoch is None else f"{run.epoch} of {run.epochs}"


def macro_table(found: RunComparison) -> Table:
    """Macro AUROC of each run with what it was measured on, and its paired difference from the first run."""
    tests = {of.second: of.macro for of in found.comparisons}
    columns = (Column("run"), Column("test set"), Column("macro AUROC"))
    rows = []
    for i, (letter, run) in enumerate(zip(_letters(found.runs), found.runs, strict=True)):
        tested = _tested(tests.get(run.name) if i else None, "p_patients") if tests else ()
        rows.append(row(letter, _test_set(run), run.macro_auroc, *tested))
    more = (Column("− A"), Column("p")) if tests else ()
    return Table("Results", (*columns, *more), tuple(rows), tuple(_about(found)))


def output_tables(found: RunComparison) -> Iterator[Table]:
    """AUROC by output for a few runs at a time; of two runs with intervals, or with the paired difference."""
    shown = list(zip(_letters(found.runs), found.runs, strict=True))
    names = [ABNORMAL, *dict.fromkeys(name for run in found.runs for name in run.findings)]
    of_datasets = list(dict.fromkeys(name for run in found.runs for name in run.datasets))
    test = found.comparisons[0] if len(shown) == 2 and found.comparisons else None
    more = (Column("B − A"), Column("p")) if test is not None else ()
    for start in range(0, len(shown), _RESULTS):
        part = shown[start : start + _RESULTS]
        columns = [Column(of, console="same" if len(shown) == 2 and test is None else "values") for of, _ in part]

        def line(name: str, *cells: Cell | Estimate | str | None, tested: Difference | None = None) -> Row:
            return row(name, *cells, *(_tested(tested, "p_patients_holm") if test is not None else ()))

        rows = [line("test set", *(f"{run.test_set or '–'}" for _, run in part))]
        for name in names:
            tested = test.outputs.get(name) if test is not None else None
            rows.append(line(output_name(name), *(_value(run, name) for _, run in part), tested=tested))
        rows += [line(f"macro, {name}", *(run.datasets.get(name) for _, run in part)) for name in of_datasets]
        yield Table("", (Column("AUROC"), *columns, *more), tuple(rows))


def _value(run: ComparedRun, name: str) -> Estimate | None:
    return run.binary_auroc if name == ABNORMAL else run.findings.get(name)


def _tested(of: Difference | None, p: Literal["p_patients", "p_patients_holm"]) -> tuple[Cell, Cell]:
    """A difference and its p-value; blank without a test."""
    if of is None:
        return Cell(""), Cell("")
    return Cell(of.difference, 4, signed=True, missing=of.too_few), Cell(p_text(getattr(of, p)))


def _test_set(run: ComparedRun) -> str:
    return "–" if run.test_set is None else f"{run.test_set}{'' if run.synthetic is None else f' {run.synthetic}'}"


def _about(found: RunComparison) -> Iterator[str]:
    """What each test set is, and how differences were tested."""
    sets = {run.test_set: run for run in reversed(found.runs) if run.test_set is not None}
    for number, run in sorted(sets.items()):
        said = f"{run.images:,} {run.split} images of {run.patients:,} patients of {run.dataset}"
        if run.synthetic is not None:
            said += f", {run.synthetic}, which say nothing about patients"
        over = f"{run.macro_findings} finding{'' if run.macro_findings == 1 else 's'}"
        yield f"Test set {number}: {said}; the macro AUROC is over {over}."
    if len(sets) > 1:
        yield "Compare only figures of the same test set."
    if found.comparisons:
        how = found.comparisons[0].interval
        yield (
            f"Differences: paired, {how.level:.0%} intervals of {how.resamples:,} resamples of the patients; p: "
            "DeLong's test with patients as clusters, of single outputs with Holm's adjustment. They are about these "
            "trained models: another seed would train others."
        )


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
