"""Tables fit a terminal of 80 columns: no figure is cut, whatever its size."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np

from chexvision.console import LiteralConsole
from chexvision.evaluation.external import measure_other
from chexvision.metrics.compare import compare
from chexvision.metrics.measure import measure
from chexvision.metrics.records import Comparison, Difference
from chexvision.metrics.subgroups import measure_subgroups
from chexvision.report import console_tables as tables
from chexvision.report.wording import figure
from tests.evaluation.conftest import METHOD, made_up

LONGEST = "Pleural_Thickening"


def printed(show: Callable[[LiteralConsole], None]) -> dict[str, str]:
    """What `show` prints at 80 columns: lines by their first word."""
    file = io.StringIO()
    show(LiteralConsole(file=file, width=80))
    text = file.getvalue()
    assert "…" not in text
    return {line.split()[0]: line for line in text.splitlines() if line.split()}


def shown(of: Difference, p: str) -> list[str]:
    difference = figure(of.difference, digits=4, sign=True)
    return [figure(of.first), figure(of.second), *difference.split(), p]


def test_a_comparison() -> None:
    first = made_up()
    logits = np.log(first.probabilities / (1 - first.probabilities)) - 3.0 * first.targets
    found: Comparison = compare(first, first.with_probabilities(1 / (1 + np.exp(-logits))), METHOD)
    rows = printed(lambda console: tables.print_comparison(console, found))
    of = found.outputs[LONGEST]
    assert of.p_patients_holm is not None and of.p_patients_holm < 0.0001
    assert rows[LONGEST].split()[1:] == shown(of, "<0.0001")
    assert rows["mean"].split()[3:] == shown(found.macro, "<0.0001")


def test_the_adjusted_p_value_is_the_one_of_patients() -> None:
    first = made_up()
    noise = np.random.default_rng(0).normal(size=first.probabilities.shape)
    logits = np.log(first.probabilities / (1 - first.probabilities)) + 0.3 * noise
    found = compare(first, first.with_probabilities(1 / (1 + np.exp(-logits))), METHOD)
    name, of = min(found.outputs.items(), key=lambda item: item[1].p_patients_holm or 1.0)
    assert of.p_patients_holm is not None
    assert len({f"{p:.4f}" for p in (of.p_patients_holm, of.p_patients, of.p_delong, of.p_delong_holm)}) == 4
    rows = printed(lambda console: tables.print_comparison(console, found))
    assert rows["normal/abnormal" if name == "Abnormal" else name].split()[-1] == f"{of.p_patients_holm:.4f}"


def test_the_figures_of_a_split() -> None:
    metrics = measure(made_up(), method=METHOD)
    of = metrics.findings[LONGEST].model_copy(update={"positives": 86_524})
    many = metrics.model_copy(update={"findings": metrics.findings | {LONGEST: of}})
    rows = printed(lambda console: tables.print_metrics(console, many, "model"))
    assert of.decision is not None
    expected = ["86,524", *figure(of["auroc"]).split(), figure(of["auprc"].value), figure(of["f1"].value)]
    expected += [figure(of["recall"].value), figure(of["specificity"].value), figure(of["ece"].value)]
    assert rows[LONGEST].split()[1:] == expected


def test_subgroups() -> None:
    predictions = made_up(600, 200)
    sex = np.where(predictions.patients % 2 == 0, "F", "M")
    (attribute,) = measure_subgroups(predictions, {"sex": sex}, METHOD, thresholds={"Abnormal": 0.5})
    many = {"images": 112_120, "patients": 30_805, "group": "first"}
    wide = attribute.groups[0].model_copy(update=many)
    shown = attribute.model_copy(update={"groups": (wide, *attribute.groups[1:])})
    rows = printed(lambda console: tables.print_subgroups(console, (shown,)))
    expected = ["112,120", "30,805", *figure(wide.macro_auroc).split()]
    expected += [*figure(wide.binary_auroc).split(), figure(wide.recall.value)]
    assert rows["first"].split()[1:] == [*expected, figure(wide.specificity.value)]


def test_another_set() -> None:
    found = measure_other("elsewhere", "map", made_up(600, 200, 1), made_up(600, 200, 0), METHOD)
    of = found.metrics.findings[LONGEST].model_copy(update={"positives": 86_524, "unknown": 12_345})
    metrics = found.metrics.model_copy(update={"findings": found.metrics.findings | {LONGEST: of}})
    many = found.model_copy(update={"metrics": metrics})
    rows = printed(lambda console: tables.print_other_set(console, many))
    gap = found.gaps[LONGEST]
    expected = ["86,524", *figure(gap.there).split(), figure(gap.here.value)]
    assert rows[LONGEST].split()[1:] == [*expected, *figure(gap.difference, sign=True).split()]
    assert "12,345 unknown labels are masked" in rows["12,345"]
