"""The comparison of published runs as rows for a notebook or a spreadsheet: one of each run and output."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from chexvision.evaluation.many_runs.run_comparison import ComparedRun, RunComparison
from chexvision.foreign import printable
from chexvision.labels import ABNORMAL
from chexvision.metrics.records import Comparison, Difference, Estimate

COLUMNS = (
    "run", "reference", "run_id", "dataset", "split", "images", "test_set", "synthetic", "output", "auroc", "low",
    "high", "difference", "difference_low", "difference_high", "p",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@")  # what spreadsheets compute


def comparison_csv(found: RunComparison) -> str:
    """A table of `COLUMNS`, with empty cells where there is nothing.

    AUROCs compare where ``test_set`` is equal. A difference is from the first run and paired by image; its p-value is
    DeLong's with patients as clusters, of a single output adjusted by Holm's method.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    tests = {of.second: of for of in found.comparisons}
    for i, run in enumerate(found.runs):
        test = tests.get(run.name) if i else None
        known = (run.dataset, run.split, run.images, run.test_set, run.synthetic)
        for name, auroc in _outputs(run):
            of, p = _tested(test, name)
            cells = (run.name, run.reference, run.run_id, *known, name, *_three(auroc), *_three(of.difference), p)
            writer.writerow([_text(cell) if isinstance(cell, str) else cell for cell in cells])
    return file.getvalue()


def _outputs(run: ComparedRun) -> Iterator[tuple[str, Estimate]]:
    yield "macro", run.macro_auroc
    yield ABNORMAL, run.binary_auroc
    yield from run.findings.items()


def _tested(test: Comparison | None, name: str) -> tuple[Difference, float | None]:
    if test is None:
        return Difference(), None
    if name == "macro":
        return test.macro, test.macro.p_patients
    of = test.outputs.get(name, Difference())
    return of, of.p_patients_holm


def _three(of: Estimate) -> tuple[float | None, float | None, float | None]:
    return (of.value, *(of.interval or (None, None)))


def _text(text: str) -> str:
    """Other people's text, which no spreadsheet computes."""
    return f"'{printable(text)}" if text.startswith(_FORMULA) else printable(text)
