"""A metric is one entry of the catalog, which records, files, tables and cards use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chexvision.artifact.metrics_file import Conditions, Evaluation, read_metrics
from chexvision.console import LiteralConsole
from chexvision.evaluation.protocol import System, evaluate_systems
from chexvision.metrics.catalog import METRICS, Metric
from chexvision.report.console_report import print_evaluation
from chexvision.report.model_card import eval_results
from tests.evaluation.conftest import METHOD, random_predictions
from tests.present import present

NPV = Metric(
    "npv",
    "NPV",
    lambda of: of.sums.true_negatives / (of.sums.true_negatives + of.sums.false_negatives),
    digits=2,
    at_threshold=True,
    terminal="NPV",
    hub="npv",
)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    monkeypatch.setitem(METRICS, "npv", NPV)
    conditions = Conditions(dataset="u/d@" + "0" * 40, synthetic=False, split="test")
    return evaluate_systems([System("a", random_predictions())], conditions, None, METHOD)[0]


def test_a_new_metric_is_measured_with_its_interval(found: Evaluation) -> None:
    predictions = random_predictions()
    i = predictions.column("Mass")
    negative = predictions.targets[:, i] == 0
    called_negative = predictions.probabilities[:, i] < 0.5
    npv = found.metrics.findings["Mass"]["npv"]
    assert npv.value == pytest.approx(float((negative & called_negative).sum() / called_negative.sum()))
    low, high = present(npv.interval)
    assert low < present(npv.value) < high
    values = [present(of["npv"].value) for of in found.metrics.findings.values()]
    assert found.metrics.macro["npv"].value == pytest.approx(np.mean(values))


def test_a_new_metric_is_in_files_tables_and_cards(found: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(found.model_dump_json())
    assert read_metrics(tmp_path / "metrics.json") == found
    mean = present(found.metrics.macro["npv"].value)
    console = LiteralConsole(width=200, record=True)
    print_evaluation(console, found)
    printed = console.export_text().splitlines()
    assert next(line for line in printed if "AUROC" in line and "n+" in line).split()[-1] == "NPV"
    assert next(line for line in printed if line.startswith("mean of")).split()[-1] == f"{mean:.2f}"
    results = {result.metric_name: result.metric_value for result in eval_results(found)}
    assert results["Macro NPV"] == round(mean, 4)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_optimal_for_perfect_predictions(name: str) -> None:
    predictions = random_predictions()
    perfect = predictions.with_probabilities(predictions.targets)
    conditions = Conditions(dataset="d", synthetic=False, split="test")
    found, _ = evaluate_systems([System("a", perfect)], conditions, None, METHOD)
    assert found.metrics.macro[name].value == float(METRICS[name].higher_is_better)
