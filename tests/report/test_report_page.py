"""The page of an evaluation: complete, self-contained, and the same for the same evaluation."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chexvision.artifact.load import load_ensemble
from chexvision.artifact.metrics_file import Conditions
from chexvision.evaluation.outcome import Outcome
from chexvision.evaluation.protocol import System, evaluate_systems
from chexvision.explain.mistake_maps import explain_mistakes
from chexvision.metrics.predictions import Predictions
from chexvision.report.charts import calibration_chart, histogram_chart, pr_chart, roc_chart
from chexvision.report.html import render_report, write_report
from chexvision.report.mistakes import worst_mistakes
from chexvision.report.svg import svg_text
from tests.evaluation.conftest import METHOD, random_predictions
from tests.evaluation.conftest import tiny_model as tiny_model
from tests.present import present

MADE = "2026-01-02T03:04:05+00:00"
SHA = "0123456789abcdef0123456789abcdef01234567"


def _of_others(predictions: Predictions) -> Predictions:
    names = np.array([f"9{name[1:]}" for name in predictions.filenames.tolist()])
    return replace(predictions, filenames=names, patients=predictions.patients + 90_000_000)


@pytest.fixture(scope="module")
def outcome(tiny_model: Callable[[int], Path]) -> Outcome:
    """200 images; Hernia has too few cases, labels of Mass are unknown in part, and Fibrosis is never present."""
    test = random_predictions(200, 120, 1)
    names = test.names
    hernia = test.targets[:, names.index("Hernia")]
    hernia[:] = 0
    hernia[:3] = 1
    test.targets[:40, names.index("Mass")] = np.nan
    test.targets[:, names.index("Fibrosis")] = 0
    system = System("densenet", test, _of_others(random_predictions(200, 120, 0)))
    conditions = Conditions(dataset=f"chex/xrays@{SHA}", synthetic=False, split="test", split_rule="official")
    evaluation, systems = evaluate_systems([system], conditions, None, METHOD)
    images = np.random.default_rng(0).integers(0, 255, (200, 32, 32), dtype=np.uint8)
    model = load_ensemble(tiny_model(0))
    return Outcome(evaluation, systems, (f"chex/densenet@{SHA}",), model, (images,))


@pytest.fixture(scope="module")
def page(outcome: Outcome) -> str:
    return render_report(outcome, MADE, explain_mistakes(outcome))


def test_the_title_names_model_revision_data_and_date(page: str) -> None:
    assert "<title>densenet on chex/xrays, test, 2026-01-02</title>" in page
    head = page[: page.index("<nav")]
    for text in (f"chex/densenet@{SHA}", f"chex/xrays@{SHA}", MADE, "test, divided by official"):
        assert f"<dd>{text}" in head


def test_the_contents_lead_to_every_section(page: str) -> None:
    links = re.findall(r"href='#([^']+)'", page)
    assert sorted(links) == sorted(re.findall(r"<(?:h2|section)[^>]* id='([^']+)'", page))
    assert len(links) == len(set(links)) > 17
    assert re.search(r"href='#output-\d+'>Hernia <span class='soft'>\(too few\)", page)


def test_too_few_and_unknown_labels_are_pointed_out(page: str) -> None:
    cautions = page[page.index("<ul class='card warn'>") : page.index("<nav")]
    assert "Left out of the mean, too few cases" in cautions and "Hernia" in cautions
    assert "by finding: Mass 40 of 200" in cautions
    sections = dict(re.findall(r"<h3>([^<]+)</h3>(.*?)</section>", page, re.DOTALL))
    assert "Too few cases for estimates" in sections["Hernia"] and "<svg" in sections["Hernia"]
    assert "<svg" not in sections["Fibrosis"]
    assert "40 unknown" in sections["Mass"]
    assert "unknown" not in sections["Edema"] and "Too few" not in sections["Edema"]


def test_axes_are_the_same_for_all_outputs(page: str) -> None:
    ticks: dict[str, set[tuple[str, ...]]] = {}
    for svg in re.findall(r"<svg[^>]*aria-label=\"[A-Z].*?</svg>", page, re.DOTALL):
        title = re.findall(r'aria-label="([^"]+)"', svg)[0]
        axes = re.findall(r"font-size=\"9.5\" text-anchor=\"(?:middle|end)\"[^>]*>([^<]+)<", svg)
        ticks.setdefault(title, set()).add(tuple(axes))
    assert set(ticks) == {"ROC", "Precision-recall", "Calibration", "Scores"}
    assert {title: len(found) for title, found in ticks.items()} == dict.fromkeys(ticks, 1)


def test_calibration_charts_show_the_positives_of_each_bin(outcome: Outcome) -> None:
    scores = np.linspace(0.01, 0.9, 40)
    targets = np.repeat([0.0, 0.0, 1.0, 1.0], 10)
    svg = svg_text(calibration_chart("Calibration", scores, None, targets))
    assert "positives in each bin of 8 images" in svg
    assert re.findall(r">(\d+)</text>", svg[svg.index("positives in each") :]) == ["0", "0", "4", "8", "8"]


def test_the_prevalence_is_marked_in_precision_recall_alone(outcome: Outcome) -> None:
    of = outcome.evaluation.metrics.findings["Edema"]
    scores, targets = np.linspace(0, 1, 40), np.repeat([0.0, 0.0, 0.0, 1.0], 10)
    dashed = re.compile(r'<line x1="42" y1="([^"]+)" x2="226" y2="\1"[^>]*dasharray')
    (height,) = dashed.findall(svg_text(pr_chart("p", scores, targets, of)))
    assert float(height) == pytest.approx(24 + 148 * 0.75)
    for chart in (roc_chart("r", scores, targets, of), histogram_chart("h", scores, targets, None, 1.0)):
        assert not dashed.search(svg_text(chart))


def test_maps_are_beside_the_worst_mistakes(outcome: Outcome, page: str) -> None:
    worst = worst_mistakes(outcome)
    names = outcome.main.calibrated.names
    assert names.index("Fibrosis") not in worst and len(worst) == 14
    assert page.count("<figure>") == page.count("alt='map of ") == sum(map(len, worst.values()))
    maps = present(explain_mistakes(outcome))
    for output, images in worst.items():
        for image in images:
            colored = np.ptp(maps.overlays[output, image].astype(int), axis=2) > 3
            assert bool(colored.any()) == (maps.highest[output, image] > 0)
            if maps.highest[output, image] > 0:
                assert f"; map to {maps.highest[output, image]:.2g}</span>" in page
    without = render_report(outcome, MADE)
    assert without.count("<figure>") == page.count("<figure>") and "alt='map of " not in without


def test_the_worst_mistakes_are_the_most_certain_ones(outcome: Outcome) -> None:
    found = outcome.main.calibrated
    for output, images in worst_mistakes(outcome).items():
        scores, targets = found.probabilities[:, output], found.targets[:, output]
        false = [image for image in images if targets[image] == 0]
        assert len(false) == 3 and scores[false[0]] == scores[targets == 0].max()
        missed = [image for image in images if targets[image] == 1]
        assert 1 <= len(missed) <= 3 and scores[missed[0]] == scores[targets == 1].min()


def test_equal_evaluations_give_equal_pages(outcome: Outcome, page: str, tmp_path: Path) -> None:
    write_report(outcome, tmp_path / "out", MADE, explain_mistakes(outcome))
    assert (tmp_path / "out" / "report.html").read_text() == page
    assert render_report(outcome, "2026-01-03T00:00:00+00:00") != render_report(outcome, MADE)


def test_nothing_outside_the_page_is_needed(page: str) -> None:
    assert not re.search(r"<(script|link)|src=['\"](?!data:)|href=['\"](?!#)|url\(|@import", page)
    for rule in ("@media print", "prefers-color-scheme: dark", "max-width: 560px"):
        assert rule in page
