"""With too few cases there is a reason instead of a metric, in every table and file."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from rich.console import Console

from chexvision.evaluation.external import measure_other
from chexvision.metrics.catalog import METRICS
from chexvision.metrics.compare import compare
from chexvision.metrics.estimate import Estimate
from chexvision.metrics.measure import measure
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.records import MIN_CASES, reason_if_few
from chexvision.metrics.subgroups import measure_subgroups
from chexvision.metrics.weighted import Measure
from chexvision.report.evaluation_tables import comparison_table, metrics_table, other_set_tables, subgroup_table
from chexvision.report.html import table_html
from chexvision.report.table import Table, print_table
from tests.evaluation.conftest import METHOD, random_predictions

LACKS = "Hernia"


def _with_cases(positive_patients: int, images: int = 1) -> Predictions:
    """Predictions in which `LACKS` is positive, and perfectly ranked, in a few patients' `images` alone."""
    predictions = random_predictions(600, 200)
    i = predictions.column(LACKS)
    predictions.targets[:, i] = 0
    counts = {patient: np.flatnonzero(predictions.patients == patient) for patient in np.unique(predictions.patients)}
    chosen = [rows[:images] for rows in counts.values() if len(rows) >= images][:positive_patients]
    rows = np.concatenate(chosen)
    predictions.targets[rows, i] = 1
    predictions.probabilities[:, i] = 0.1
    predictions.probabilities[rows, i] = 0.9
    return predictions


def _printed(table: Table) -> str:
    console = Console(file=io.StringIO(), width=250)
    print_table(console, table)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def _row(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith(name))


def _html_row(page: str, name: str) -> str:
    return next(row for row in page.split("<tr") if f">{name}<" in row)


def test_metrics_appear_at_the_minimum_number_of_cases() -> None:
    below, enough = measure(_with_cases(MIN_CASES - 1), method=METHOD), measure(_with_cases(MIN_CASES), method=METHOD)
    assert (below.macro.findings, enough.macro.findings) == (13, 14)
    assert below.macro.left_out == (LACKS,)
    of = below.findings[LACKS]
    assert of.estimates == dict.fromkeys(METRICS, Estimate())
    assert of.decision is not None
    assert of.decision.true_positives == of.positives == of.positive_patients == MIN_CASES - 1
    assert of.too_few == reason_if_few(MIN_CASES - 1, of.negative_patients)
    assert enough.findings[LACKS]["auroc"].value == 1
    assert enough.findings[LACKS].too_few is None


def test_cases_are_counted_by_patient() -> None:
    of = measure(_with_cases(3, images=4)).findings[LACKS]
    assert (of.positives, of.positive_patients) == (12, 3)
    assert of["auroc"].value is None
    assert of.too_few is not None
    assert of.too_few.startswith("positive images of 3 and negative images of ")


@pytest.mark.parametrize("kind", [0, 1])
def test_too_few_positives_or_negatives_give_no_metric(kind: int) -> None:
    predictions = random_predictions(300, 100)
    predictions.targets[:, 2] = kind
    figures = Measure(predictions, thresholds={predictions.names[2]: 0.5}).once()
    for name in METRICS:
        assert np.isnan(figures[name][2, 0])


def test_tables_show_too_few_instead_of_a_metric() -> None:
    metrics = measure(_with_cases(4), method=METHOD)
    for row in (
        _row(_printed(metrics_table(metrics, "model")), LACKS),
        _html_row(table_html(metrics_table(metrics, "model")), LACKS),
    ):
        assert "too few" in row
        assert not re.search(r"\b[01]\.\d{3}\s*\(", row)
    said = _printed(metrics_table(metrics, "model"))
    assert (
        f"Left out of the mean, too few cases (fewer than {MIN_CASES} patients with or without it): {LACKS}" in said
    )


def test_comparisons_show_too_few() -> None:
    predictions = _with_cases(4)
    found = compare(predictions, predictions.with_probabilities(predictions.probabilities**2), METHOD)
    of = found.outputs[LACKS]
    assert (of.first, of.second, of.p_delong, of.p_patients) == (None,) * 4
    assert of.difference == Estimate()
    assert of.too_few is not None
    assert found.macro_findings == 13
    assert "too few" in _row(_printed(comparison_table(found)), LACKS)
    assert "too few" in _html_row(table_html(comparison_table(found)), LACKS)


def test_subgroups_show_too_few() -> None:
    predictions = random_predictions(600, 200)
    sex = np.where(predictions.patients % 2 == 0, "F", "M")
    i = predictions.column("Abnormal")
    predictions.targets[sex == "F", i] = 1
    predictions.targets[sex == "F", predictions.column(LACKS)] = 0
    (found,) = measure_subgroups(predictions, {"sex": sex}, METHOD, thresholds={"Abnormal": 0.5})
    women = found.groups[0]
    assert women.binary_auroc == women.recall == women.specificity == Estimate()
    assert women.binary_too_few is not None
    assert women.findings[LACKS].auroc.value is None
    assert women.findings[LACKS].too_few is not None
    assert LACKS not in found.macro_findings
    assert "too few" in _row(_printed(subgroup_table(found)), "F ")
    assert "too few" in _html_row(table_html(subgroup_table(found)), "F")


def test_external_sets_show_too_few() -> None:
    here, there = random_predictions(600, 200, 0), _with_cases(4)
    found = measure_other("elsewhere", "map", there, here, METHOD)
    gap = found.gaps[LACKS]
    assert gap.here.value is not None
    assert gap.there == gap.difference == Estimate()
    assert gap.too_few is not None
    assert gap.too_few.startswith("there: positive images of 4")
    assert LACKS not in found.macro.targets
    assert "too few" in _row(_printed(other_set_tables(found)[0]), LACKS)
    assert "too few" in _html_row(table_html(other_set_tables(found)[0]), LACKS)


def test_without_any_finding_the_mean_is_null() -> None:
    predictions = random_predictions(60, 9)
    metrics = measure(predictions)
    assert metrics.macro["auroc"].value is None
    assert metrics.macro.findings == 0
    assert len(metrics.macro.left_out) == 14
    said = _printed(metrics_table(metrics, "model"))
    assert "too few" in _row(said, "mean of 0")
