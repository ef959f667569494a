"""``metrics.json``: unnumbered formats are read, and the same predictions give the values that those files hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chexvision.artifact.metrics_file import Conditions, Evaluation, read_metrics
from chexvision.errors import ChexError
from chexvision.evaluation.external import for_other_labels, measure_other, own_labels
from chexvision.evaluation.protocol import System, evaluate_systems, evaluate_trained
from chexvision.label_maps.other_labels import OtherLabels
from chexvision.labels import NIH
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.records import Estimate
from chexvision.metrics.subgroups import Groups, group_images
from tests.evaluation.conftest import METHOD, random_predictions

OLD = Path(__file__).with_name("old_metrics")
NAMES = ("Mass", "Nodule", "Hernia", "Abnormal")
CONDITIONS = Conditions(dataset="d", synthetic=False, split="test")
NO_SYSTEM = '{"format": 5, "dataset": "d", "synthetic": false, "split": "test", "systems": []}'


@pytest.fixture
def validation() -> Predictions:
    of = random_predictions(400, 150, 0, names=NAMES)
    names = np.array([f"9{name[1:]}" for name in of.filenames.tolist()])
    return Predictions(of.names, names, of.patients + 90_000_000, of.probabilities, of.targets)


@pytest.fixture
def measured() -> Predictions:
    of = random_predictions(600, 250, 1, names=NAMES)
    of.targets[:, 2] = np.arange(600) < 5  # too few cases
    return of


@pytest.fixture
def other(measured: Predictions) -> Predictions:
    noise = 0.1 * np.random.default_rng(5).normal(size=measured.probabilities.shape)
    return measured.with_probabilities(np.clip(measured.probabilities + noise, 0, 1))


@pytest.fixture
def groups(measured: Predictions) -> Groups:
    patients = measured.patients.tolist()
    sex: list[str | None] = ["F" if patient % 2 else "M" for patient in patients]
    age: list[int | None] = [50 if patient % 3 else 10 for patient in patients]
    return group_images(sex, age, ["PA"] * 600, [0] * 600)


def _numbers(of: Any, at: str = "") -> dict[str, Any]:
    """Every value of nested records, by its path."""
    if isinstance(of, dict | list):
        items = of.items() if isinstance(of, dict) else enumerate(of)
        return {key: value for name, part in items for key, value in _numbers(part, f"{at}/{name}").items()}
    return {at: of}


def _assert_equal(new: Any, old: Any) -> None:
    """The same paths with the same values, but for the rounding of another processor's sums."""
    new, old = (_numbers(json.loads(of.model_dump_json())) for of in (new, old))
    assert new.keys() == old.keys()
    for path, value in old.items():
        expected = pytest.approx(value, rel=1e-6, abs=1e-9) if isinstance(value, float) else value
        assert new[path] == expected, path


def test_metrics_of_a_run_match_the_earlier_format(
    validation: Predictions, measured: Predictions, groups: Groups
) -> None:
    old = read_metrics(OLD / "training.json")
    new, _ = evaluate_trained("model", {"validation": validation, "test": measured}, groups, CONDITIONS, METHOD)
    assert list(old.splits) == ["validation", "test"]
    for name, split in old.splits.items():
        _assert_equal(new.splits[name], split)
    for attribute, before in zip(new.subgroups, old.subgroups, strict=True):
        _assert_equal(attribute, before)
    assert new.published[:2] == old.published
    assert (old.image_size, old.epoch, old.synthetic, old.split) == (320, 7, False, "test")
    assert old.division is not None and old.division.rule == "official"


def test_metrics_of_an_evaluation_match_the_earlier_format(
    validation: Predictions, measured: Predictions, other: Predictions, groups: Groups
) -> None:
    old = read_metrics(OLD / "evaluation.json")
    systems = [System("a", measured, validation), System("b", other, validation)]
    new, _ = evaluate_systems(systems, CONDITIONS, groups, METHOD)
    known = np.where(np.random.default_rng(3).random((600, 2)) < 0.1, np.nan, measured.targets[:, [0, 3]])
    labels = OtherLabels(
        measured.filenames, measured.patients, known, ("Mass", "Abnormal"), (("Mass",), ("Abnormal",))
    )
    expert = measure_other(
        "experts", "map.yaml", for_other_labels(measured, labels), own_labels(measured, labels), METHOD
    )
    assert old.expert is not None
    pairs = [*zip(new.systems, old.systems, strict=True), *zip(new.comparisons, old.comparisons, strict=True)]
    pairs += [*zip(new.subgroups, old.subgroups, strict=True), (expert, old.expert)]
    for after, before in pairs:
        _assert_equal(after, before)
    assert (old.synthetic, old.notes, old.overlaps[0].trained_images) == (True, ("a note",), 3)


def test_a_score_file_of_the_earlier_format_is_read() -> None:
    old = read_metrics(OLD / "score.json")
    assert (old.systems[0].name, old.metrics.images) == ("p.csv", 600)
    assert old.metrics.findings["Hernia"]["auroc"] == Estimate()
    assert old.metrics.findings["Mass"]["f1"].interval is not None


def test_an_old_file_without_intervals_is_read(tmp_path: Path) -> None:
    def bare(of: Any) -> Any:
        if isinstance(of, dict):
            return {key: bare(value) for key, value in of.items() if not key.endswith("_ci")}
        return [bare(one) for one in of] if isinstance(of, list) else of

    old = json.loads((OLD / "training.json").read_text())
    content = {key: bare(value) if key == "splits" else value for key, value in old.items()}
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    found, full = (read_metrics(path).metrics for path in (tmp_path / "metrics.json", OLD / "training.json"))
    for of, before in ((found.macro, full.macro), (found.findings["Mass"], full.findings["Mass"])):
        assert {name: one.value for name, one in of.estimates.items()} == {
            name: one.value for name, one in before.estimates.items()
        }
        assert {one.interval for one in of.estimates.values()} == {None}


def test_validation_is_not_compared_with_results_on_test_images(validation: Predictions) -> None:
    names = (*NIH.findings[:3], "Abnormal")
    of = Predictions(names, validation.filenames, validation.patients, validation.probabilities, validation.targets)
    found, _ = evaluate_trained("model", {"validation": of}, None, CONDITIONS, METHOD)
    assert (found.split, found.published) == ("validation", ())


def test_metrics_round_trip_through_their_file(
    validation: Predictions, measured: Predictions, tmp_path: Path
) -> None:
    new, _ = evaluate_systems([System("a", measured, validation)], CONDITIONS, None, METHOD)
    (tmp_path / "metrics.json").write_text(new.model_dump_json())
    assert read_metrics(tmp_path / "metrics.json") == new
    assert json.loads((tmp_path / "metrics.json").read_text())["format"] == Evaluation.model_fields["format"].default


def test_a_file_of_format_2_had_one_test_time_augmentation(measured: Predictions, tmp_path: Path) -> None:
    systems = [System("a", measured), System("a + views", measured, tta="views", views=4)]
    new, _ = evaluate_systems(systems, CONDITIONS, None, METHOD)
    old = json.loads(new.model_dump_json()) | {"format": 2}
    for system in old["systems"]:
        del system["tta"]
    (tmp_path / "metrics.json").write_text(json.dumps(old))
    assert read_metrics(tmp_path / "metrics.json") == new


def test_a_file_of_format_3_had_no_input_check(measured: Predictions, tmp_path: Path) -> None:
    new, _ = evaluate_systems([System("a", measured)], CONDITIONS, None, METHOD)
    old = json.loads(new.model_dump_json()) | {"format": 3}
    del old["input_check"]
    (tmp_path / "metrics.json").write_text(json.dumps(old))
    assert read_metrics(tmp_path / "metrics.json") == new


@pytest.mark.parametrize(
    "content", ['{"format": 6, "dataset": "d"}', "[]", "null", "{", '{"splits": 1}', "{}", "[" * 10**5, NO_SYSTEM]
)
def test_other_json_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(ChexError, match=r"metrics\.json"):
        read_metrics(tmp_path / "metrics.json")
