"""Tables fit a terminal of 80 columns without truncated numbers."""

from __future__ import annotations

import io

import numpy as np

from chexvision.console import LiteralConsole
from chexvision.evaluation.external import measure_other
from chexvision.metrics.compare import compare
from chexvision.metrics.measure import measure
from chexvision.metrics.records import Comparison, Difference
from chexvision.metrics.subgroups import measure_subgroups
from chexvision.report.evaluation_tables import comparison_table, metrics_table, other_set_tables, subgroup_table
from chexvision.report.table import Table, print_table
from chexvision.report.wording import number
from tests.evaluation.conftest import METHOD, random_predictions

LONGEST = "Pleural_Thickening"


def printed(table: Table) -> dict[str, str]:
    """A table at 80 columns: lines by their first word."""
    file = io.StringIO()
    print_table(LiteralConsole(file=file, width=80), table)
    text = file.getvalue()
    assert "…" not in text
    return {line.split()[0]: line for line in text.splitlines() if line.split()}


def shown(of: Difference, p: str) -> list[str]:
    difference = number(of.difference, digits=4, signed=True)
    return [number(of.first), number(of.second), *difference.split(), p]


def test_a_comparison() -> None:
    first = random_predictions()
    logits = np.log(first.probabilities / (1 - first.probabilities)) - 3.0 * first.targets
    found: Comparison = compare(first, first.with_probabilities(1 / (1 + np.exp(-logits))), METHOD)
    rows = printed(comparison_table(found))
    of = found.outputs[LONGEST]
    assert of.p_patients_holm is not None and of.p_patients_holm < 0.0001
    assert rows[LONGEST].split()[1:] == shown(of, "<0.0001")
    assert rows["mean"].split()[3:] == shown(found.macro, "<0.0001")


def test_the_adjusted_p_value_is_that_of_the_patient_level_test() -> None:
    first = random_predictions()
    noise = np.random.default_rng(0).normal(size=first.probabilities.shape)
    logits = np.log(first.probabilities / (1 - first.probabilities)) + 0.3 * noise
    found = compare(first, first.with_probabilities(1 / (1 + np.exp(-logits))), METHOD)
    name, of = min(found.outputs.items(), key=lambda item: item[1].p_patients_holm or 1.0)
    assert of.p_patients_holm is not None
    assert len({f"{p:.4f}" for p in (of.p_patients_holm, of.p_patients, of.p_delong, of.p_delong_holm)}) == 4
    rows = printed(comparison_table(found))
    assert rows["normal/abnormal" if name == "Abnormal" else name].split()[-1] == f"{of.p_patients_holm:.4f}"


def test_the_figures_of_a_split() -> None:
    metrics = measure(random_predictions(), method=METHOD)
    of = metrics.findings[LONGEST].model_copy(update={"positives": 86_524})
    many = metrics.model_copy(update={"findings": metrics.findings | {LONGEST: of}})
    rows = printed(metrics_table(many, "model"))
    assert of.decision is not None
    expected = ["86,524", *number(of["auroc"]).split(), number(of["auprc"].value), number(of["f1"].value)]
    expected += [number(of["recall"].value), number(of["specificity"].value), number(of["ece"].value)]
    assert rows[LONGEST].split()[1:] == expected


def test_subgroups() -> None:
    predictions = random_predictions(600, 200)
    sex = np.where(predictions.patients % 2 == 0, "F", "M")
    (attribute,) = measure_subgroups(predictions, {"sex": sex}, METHOD, thresholds={"Abnormal": 0.5})
    many = {"images": 112_120, "patients": 30_805, "group": "first"}
    wide = attribute.groups[0].model_copy(update=many)
    shown = attribute.model_copy(update={"groups": (wide, *attribute.groups[1:])})
    rows = printed(subgroup_table(shown))
    expected = ["112,120", "30,805", *number(wide.macro_auroc).split()]
    expected += [*number(wide.binary_auroc).split(), number(wide.recall.value)]
    assert rows["first"].split()[1:] == [*expected, number(wide.specificity.value)]


def test_another_set() -> None:
    found = measure_other(
        "elsewhere", "map", random_predictions(600, 200, 1), random_predictions(600, 200, 0), METHOD
    )
    of = found.metrics.findings[LONGEST].model_copy(update={"positives": 86_524, "unknown": 12_345})
    metrics = found.metrics.model_copy(update={"findings": found.metrics.findings | {LONGEST: of}})
    many = found.model_copy(update={"metrics": metrics})
    rows = printed(other_set_tables(many)[0])
    gap = found.gaps[LONGEST]
    expected = ["86,524", *number(gap.there).split(), number(gap.here.value)]
    assert rows[LONGEST].split()[1:] == [*expected, *number(gap.difference, signed=True).split()]
    assert "12,345 unknown labels are masked" in rows["12,345"]
