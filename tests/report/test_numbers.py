"""Values that would silently be wrong are refused, or reported with the number of findings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chexvision.errors import ChexError, UsageError
from chexvision.evaluation.external import own_labels
from chexvision.inference.predictions_file import read_predictions, write_predictions
from chexvision.label_maps.other_labels import OtherLabels
from chexvision.metrics.measure import measure
from chexvision.metrics.subgroups import group_images
from chexvision.report.wording import about_means
from tests.evaluation.conftest import METHOD, random_predictions


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1, 1.5])
def test_invalid_probabilities_are_refused_by_image_and_name(value: float) -> None:
    predictions = random_predictions(50, 20)
    probabilities = predictions.probabilities.copy()
    probabilities[7, 4] = value
    with pytest.raises(ChexError, match=f"1 of 750 .* first {value} for Mass of {predictions.filenames[7]}"):
        predictions.with_probabilities(probabilities)


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("prob_Mass", 3, 1.5, "first 1.5 for Mass"),
        ("prob_Mass", 3, None, "first nan for Mass"),
        ("label_Mass", 3, 2, "labels other than 0, 1 and null"),
        ("filename", 3, None, "rows without filename"),
        ("patient_id", 3, None, "rows without patient_id"),
        ("filename", 3, "first", "names .* more than once"),
    ],
)
def test_damaged_predictions_are_refused(tmp_path: Path, column: str, row: int, value: object, message: str) -> None:
    path = tmp_path / "p.parquet"
    write_predictions(path, random_predictions(30, 10))
    table = pq.read_table(path).to_pydict()
    table[column][row] = table[column][0] if value == "first" else value
    pq.write_table(pa.table(table), path)
    with pytest.raises(UsageError, match=message):
        read_predictions(path)


def test_a_mean_over_fewer_findings_is_reported() -> None:
    predictions = random_predictions(400, 150)
    low = dict.fromkeys(predictions.names, 0.3) | {"Mass": 1.1}  # no positive decision: precision is 0 / 0
    del low["Hernia"]  # no threshold: no decisions
    macro = measure(predictions, thresholds=low, method=METHOD).macro
    assert macro.findings == 14
    assert macro.fewer == {"f1": 13, "precision": 12, "recall": 13, "specificity": 13}
    assert about_means(macro) == [
        "Means over the findings that have the metric: F1 13, precision 12, recall 13, specificity 13 of 14."
    ]
    assert measure(predictions).macro.fewer == {}


def test_one_positive_finding_is_enough_even_where_another_is_unknown() -> None:
    predictions = random_predictions(20, 10)
    nodule, mass = predictions.column("Nodule"), predictions.column("Mass")
    predictions.targets[:, mass] = np.nan
    predictions.targets[:, nodule] = [1, 0] * 10
    labels = OtherLabels(
        predictions.filenames, predictions.patients, np.zeros((20, 1)), ("Nodule or mass",), (("Nodule", "Mass"),)
    )
    found = own_labels(predictions, labels).targets[:, 0]
    assert (found[::2] == 1).all()
    assert np.isnan(found[1::2]).all()


def test_impossible_ages_are_in_no_age_group() -> None:
    assert group_images(["F"] * 3, [414, -1, 85], ["PA"] * 3, [0] * 3)["age"].tolist() == ["", "", "80+"]
