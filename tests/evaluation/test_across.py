"""Several datasets: the same thresholds everywhere, independent or paired gaps, blanks where nothing is labeled."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chexvision.artifact.contents import RUN
from chexvision.artifact.metrics_file import Conditions, Evaluation, read_metrics
from chexvision.artifact.other_results import DatasetConditions, DatasetResult, DatasetSystem, LabelGap
from chexvision.data.source import ShardSource
from chexvision.errors import UsageError
from chexvision.evaluation.across import OnDataset, measure_across
from chexvision.evaluation.measured_data import Models
from chexvision.evaluation.protocol import System, evaluate_systems
from chexvision.label_maps.other_labels import OtherLabels
from chexvision.metrics.bootstrap import resample_patients
from chexvision.metrics.measure import macro_of, measure
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.records import MIN_CASES
from chexvision.metrics.weighted import Measure
from chexvision.report.datasets.dataset_tables import dataset_tables
from tests.evaluation.conftest import METHOD, random_predictions
from tests.published_runs import change, write_run

NAMES = ("Mass", "Nodule", "Edema", "Abnormal")


def of_others(predictions: Predictions, first: int = 9) -> Predictions:
    """The same values of images and patients of other names."""
    names = np.array([f"{first}{name[1:]}" for name in predictions.filenames.tolist()])
    return replace(predictions, filenames=names, patients=predictions.patients + first * 10_000_000)


def weaker(seed: int, names: tuple[str, ...] = NAMES) -> Predictions:
    """Another hospital's images, for which the model has noise on its probabilities."""
    of = of_others(random_predictions(500, 200, seed, names=names), seed)
    noise = np.random.default_rng(seed).normal(0, 0.4, of.probabilities.shape)
    return of.with_probabilities(np.clip(of.probabilities + noise, 0, 1))


HERE = random_predictions(600, 250, 1, names=NAMES)
THERE = weaker(2)


def chosen(predictions: Predictions = HERE) -> tuple[Evaluation, System]:
    """A system with thresholds and calibration of other images."""
    validation = of_others(random_predictions(400, 150, 0, names=NAMES)).select(predictions.names)
    conditions = Conditions(dataset="here", synthetic=False, split="test")
    evaluation, (system,) = evaluate_systems([System("model", predictions, validation)], conditions, None, METHOD)
    return evaluation, system


def on(name: str, *predictions: Predictions, **more: object) -> OnDataset:
    conditions = DatasetConditions.model_validate({"name": name, "dataset": name, "split": "test", **more})
    return OnDataset(conditions, predictions, (None,) * len(predictions))


def measured(*others: OnDataset, here: Predictions = HERE) -> tuple[tuple[str, ...], tuple[DatasetResult, ...]]:
    return measure_across([chosen(here)[1]], [on("here", here), *others], METHOD)


def gap(of: DatasetResult) -> LabelGap:
    macro = of.systems[0].macro
    assert macro is not None
    return macro


def draws(of: Predictions, findings: tuple[str, ...], seed: int) -> np.ndarray:
    """The macro AUROC of each resample."""
    found = Measure(of, only=("auroc",))
    how = METHOD.model_copy(update={"seed": seed})
    values = found.under(resample_patients(found.patients, how))["auroc"]
    return macro_of(values, [of.column(name) for name in findings])


def test_a_gap_is_there_minus_here_with_independent_draws_for_other_patients() -> None:
    shared, (first, second) = measured(on("there", THERE))
    assert shared == ("Mass", "Nodule", "Edema")
    assert first.systems[0].macro is None and first.systems[0].metrics is None
    found, values = gap(second), [measure(of).macro_auroc for of in (HERE, THERE)]
    assert values[0] is not None and values[1] is not None and values[1] < values[0]
    assert (found.here.value, found.there.value) == pytest.approx(values)
    assert found.difference.value == pytest.approx(values[1] - values[0])
    expected = np.quantile(draws(THERE, shared, 1) - draws(HERE, shared, 0), [0.025, 0.975])
    assert found.difference.interval == pytest.approx(tuple(expected))
    assert found.difference.interval is not None and found.difference.interval[1] < 0


def test_every_further_dataset_has_draws_of_its_own() -> None:
    """Two datasets of as many patients would otherwise be paired by their numbers."""
    copies = [of_others(THERE, first) for first in (5, 6)]
    _, (_, second, third) = measured(*(on(str(i), of) for i, of in enumerate(copies)))
    assert gap(second).difference.value == gap(third).difference.value
    assert gap(second).difference.interval != gap(third).difference.interval


def test_the_same_images_are_paired_whatever_their_order_and_patient_numbers() -> None:
    again = HERE.with_probabilities(np.clip(HERE.probabilities + 1e-3, 0, 1)).take(
        np.random.default_rng(0).permutation(600)
    )
    _, (_, second) = measured(on("again", replace(again, patients=1000 - again.patients)))
    assert second.same_images
    difference = gap(second).difference
    assert difference.value == pytest.approx(0, abs=1e-9) and difference.interval == pytest.approx((0, 0), abs=1e-9)
    torn = replace(again, patients=np.arange(len(again), dtype=np.int64))
    with pytest.raises(UsageError, match="do not agree on which images are of one patient"):
        measured(on("torn", torn))


def test_synthetic_images_of_equal_names_are_not_the_same_images() -> None:
    other = on("other", HERE, synthetic=True, dataset_identity="b")
    _, (_, second) = measured(other)
    assert not second.same_images
    interval = gap(second).difference.interval
    assert interval is not None and interval[0] < 0 < interval[1]


def test_a_finding_that_a_dataset_does_not_label_is_blank_and_in_no_shared_mean() -> None:
    without = weaker(3, ("Mass", "Edema", "Abnormal"))
    shared, datasets = measured(on("there", THERE), on("fewer", without, unlabeled=("Nodule",)))
    assert shared == ("Mass", "Edema")
    fewer = datasets[2].systems[0]
    assert fewer.metrics is not None and "Nodule" not in fewer.metrics.findings and "Nodule" not in fewer.gaps
    assert {of.systems[0].shared.findings for of in datasets} == {2}
    evaluation = chosen()[0].model_copy(update={"shared_findings": shared, "datasets": datasets})
    by_finding = dataset_tables(evaluation)[1]
    (nodule,) = [by_finding.texts(row) for row in by_finding.rows if row.cells[0].value == "Nodule"]
    assert nodule[1:3] != ["", ""] and nodule[-2:] == ["", ""]


def test_a_finding_with_too_few_cases_somewhere_is_in_no_shared_mean() -> None:
    few = THERE.take(np.arange(len(THERE)))
    few.targets[:, 2] = np.arange(len(few)) < MIN_CASES - 1
    shared, (_, second) = measured(on("few", few))
    assert shared == ("Mass", "Nodule")
    assert second.systems[0].gaps["Edema"].too_few is not None
    assert second.systems[0].gaps["Edema"].difference.value is None
    none, (_, third) = measured(on("none", few.select(("Edema", "Abnormal"))))
    assert none == () and gap(third).difference.value is None and gap(third).too_few is not None


def test_thresholds_and_calibration_of_the_first_dataset_are_applied_to_all() -> None:
    evaluation, system = chosen()
    _, (_, second) = measured(on("there", THERE))
    metrics = second.systems[0].metrics
    assert metrics is not None
    assert (metrics.thresholds, metrics.calibration) == ("f1 on validation", "platt on validation")
    for name in ("Mass", "Edema"):
        there, here = metrics.findings[name], evaluation.metrics.findings[name]
        assert there.decision is not None and here.decision is not None
        assert there.decision.threshold == here.decision.threshold
        probabilities = system.points.calibrate(NAMES, THERE.probabilities)[:, NAMES.index(name)]
        positive = THERE.targets[:, NAMES.index(name)] == 1
        assert there.decision.true_positives == int((probabilities >= here.decision.threshold)[positive].sum())
        assert there["recall"].value == pytest.approx((probabilities >= here.decision.threshold)[positive].mean())


def test_a_target_of_several_findings_has_a_gap_and_is_not_shared() -> None:
    labels = OtherLabels(
        THERE.filenames,
        THERE.patients,
        np.stack([THERE.targets[:, :2].max(axis=1), THERE.targets[:, 2]], axis=1),
        ("Nodule or mass", "Edema"),
        (("Nodule", "Mass"), ("Edema",)),
    )
    table = replace(on("table", THERE, label_map="map"), labels=labels)
    shared, (_, second) = measured(table)
    assert shared == ("Edema",)
    of = second.systems[0]
    assert of.metrics is not None and of.metrics.findings["Nodule or mass"].decision is None
    assert of.metrics.findings["Edema"].decision is not None
    grouped = of.gaps["Nodule or mass"]
    assert grouped.here.interval is not None and grouped.difference.interval is not None


def test_models_by_datasets_marks_where_each_was_trained() -> None:
    _, system = chosen()
    systems = [system, replace(system, name="other")]
    here, there = on("here", HERE, HERE), on("there", THERE, THERE)
    datasets = [replace(here, in_domain=(True, False)), replace(there, in_domain=(False, None))]
    shared, results = measure_across(systems, datasets, METHOD)
    evaluation = chosen()[0]
    both = tuple(evaluation.systems[0].model_copy(update={"name": name}) for name in ("model", "other"))
    found = evaluation.model_copy(update={"systems": both, "shared_findings": shared, "datasets": results})
    matrix = dataset_tables(found)[-1]
    assert [row.cells[0].value for row in matrix.rows] == ["model", "other"]
    cells = [[str(cell.value) for cell in row.cells[1:]] for row in matrix.rows]
    assert cells[0][0].endswith(" *") and not any(cell.endswith(" *") for cell in (cells[0][1], *cells[1]))
    assert cells[0][0].removesuffix(" *") == cells[1][0]
    assert dataset_tables(evaluation) == []


def test_a_dataset_is_divided_as_the_models_trained_on_it_did(tmp_path: Path) -> None:
    nih, chexpert = (write_run(tmp_path / name) for name in ("nih", "chexpert"))
    change(nih / RUN, lambda of: of.update(dataset_identity="n" * 64))
    change(chexpert / RUN, lambda of: of["split"].update(rule="patient"))
    change(chexpert / RUN, lambda of: of.update(dataset_identity="c" * 64))
    models = Models.of(["nih", "chexpert"], [nih, chexpert], [])
    assert models.trained_on == (frozenset({"n" * 64}), frozenset({"c" * 64}))
    sources = {name: ShardSource(name, {}, name * 64, synthetic=False) for name in ("n", "c", "x")}
    assert models.split(sources["n"], None, further=False).rule == "shards"
    assert models.split(sources["c"], None, further=True).rule == "patient"
    assert models.split(sources["x"], None, further=True).rule == "shards"
    assert models.split(sources["x"], "official", further=True).rule == "official"
    with pytest.raises(UsageError, match="different splits"):
        models.split(sources["x"], None, further=False)
    assert models.trained_on_any("c" * 64) == (False, True)
    (nih / RUN).unlink()
    assert Models.of(["nih"], [nih], []).trained_on_any("c" * 64) == (None,)


def test_an_external_set_of_format_4_is_a_further_dataset(tmp_path: Path) -> None:
    shared, (first, second) = measured(on("there", THERE, label_map="map"))
    evaluation = chosen()[0]
    old = json.loads(evaluation.model_dump_json()) | {"format": 4}
    of = json.loads(second.systems[0].model_dump_json())
    old["external"] = {"name": "there", "label_map": "map", "same_images": False, "agreement": {}}
    old["external"] |= {key: of[key] for key in ("metrics", "macro", "gaps")}
    for key in ("datasets", "shared_findings"):
        del old[key]
    (tmp_path / "metrics.json").write_text(json.dumps(old))
    found = read_metrics(tmp_path / "metrics.json")
    assert found.shared_findings == shared
    assert [one.dataset for one in found.datasets] == ["here", "there"]
    again: DatasetSystem = found.datasets[1].systems[0]
    assert (again.metrics, again.macro, again.gaps) == (
        second.systems[0].metrics,
        second.systems[0].macro,
        second.systems[0].gaps,
    )
    assert found.datasets[0].systems[0].shared["auroc"] == gap(second).here
    assert first.systems[0].shared["auroc"].value == pytest.approx(gap(second).here.value)
    assert len(dataset_tables(found)[0].rows) == 2
    old["external"] = None
    (tmp_path / "metrics.json").write_text(json.dumps(old))
    assert read_metrics(tmp_path / "metrics.json") == evaluation
