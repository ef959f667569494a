"""PadChest's labels form a tree: a label implies its ancestors and leaves its descendants unknown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chexvision.errors import UsageError
from chexvision.label_maps.label_map import LabelMap, read_label_map
from chexvision.label_maps.other_labels import read_other_labels


def _target_values(folder: Path, *labels: str) -> dict[str, float | None]:
    """The value of each target for an image with these labels; None if unknown."""
    listed = ", ".join(f"'{label}'" for label in labels)
    table = folder / "labels.csv"
    table.write_text(f'ImageID,PatientID,Projection,Labels\na.png,8,PA,"[{listed}]"\n')
    found = read_other_labels(table, read_label_map("padchest"))
    values = found.targets[0].tolist()
    return {name: None if np.isnan(v) else v for name, v in zip(found.names, values, strict=True)}


@pytest.mark.parametrize(
    ("label", "positive", "open_"),
    [
        ("atelectasis basal", {"Atelectasis"}, set()),
        ("laminar atelectasis", {"Atelectasis"}, set()),
        ("empyema", {"Effusion"}, set()),
        ("hemothorax", {"Effusion"}, set()),
        ("hydropneumothorax", {"Effusion", "Pneumothorax"}, set()),
        ("loculated fissural effusion", {"Effusion"}, set()),
        ("reticulonodular interstitial pattern", {"Infiltration"}, set()),
        ("miliary opacities", {"Infiltration"}, set()),
        ("ground glass pattern", {"Infiltration"}, set()),
        ("interstitial pattern", {"Infiltration"}, set()),
        ("air bronchogram", {"Infiltration", "Consolidation"}, set()),
        ("consolidation", {"Infiltration", "Consolidation"}, set()),
        ("alveolar pattern", {"Infiltration"}, {"Consolidation"}),
        ("infiltrates", {"Infiltration"}, {"Consolidation"}),
        ("pulmonary mass", {"Mass"}, set()),
        ("mediastinal mass", {"Mass"}, set()),
        ("multiple nodules", {"Nodule"}, set()),
        ("atypical pneumonia", {"Pneumonia"}, set()),
        ("post radiotherapy changes", {"Fibrosis"}, set()),
        ("asbestosis signs", {"Fibrosis"}, set()),
        ("calcified pleural thickening", {"Pleural_Thickening"}, set()),
        ("pleural plaques", set(), set()),
        ("mediastinal enlargement", set(), {"Hernia"}),
        ("hiatal hernia", {"Hernia"}, set()),
        ("fibrotic band", set(), set()),
        ("scoliosis", set(), set()),
    ],
)
def test_a_label_implies_its_ancestors(tmp_path: Path, label: str, positive: set[str], open_: set[str]) -> None:
    says = _target_values(tmp_path, label, "scoliosis")
    assert {name for name, value in says.items() if value == 1} == positive | {"Abnormal"}
    assert {name for name, value in says.items() if value is None} == open_


def test_a_child_label_decides_a_finding_that_its_parent_leaves_unknown(tmp_path: Path) -> None:
    says = _target_values(tmp_path, "infiltrates", "consolidation")
    assert says["Consolidation"] == 1
    assert None not in says.values()


def test_an_unchanged_study_confirms_only_the_labels_it_names(tmp_path: Path) -> None:
    says = _target_values(tmp_path, "unchanged", "empyema")
    assert {name for name, value in says.items() if value == 1} == {"Effusion"}
    assert {value for name, value in says.items() if name != "Effusion"} == {None}


def _map(tree: dict[str, list[str]], form: str = "list") -> LabelMap:
    of = {"labels": "l", "form": "list"} if form == "list" else {"form": "columns"}
    return LabelMap.model_validate(
        {"name": "x", "image": ["i"], **of, "tree": tree, "targets": {"Mass": {"any_of": ["a"]}}}
    )


def test_a_tree_is_read_down_to_its_leaves() -> None:
    found = _map({"a": ["b", "c"], "b": ["d"], "c": ["d"]})
    assert found.below("a") == {"a", "b", "c", "d"}
    assert found.above("d") == {"a", "b", "c"}
    assert found.above("a") == set()


@pytest.mark.parametrize(
    ("tree", "form", "message"),
    [
        ({"a": ["b"], "b": ["a"]}, "list", "'a' is below itself"),
        ({"a": ["b"]}, "columns", "tree: is of the labels of form: list"),
    ],
)
def test_bad_trees_are_refused(tree: dict[str, list[str]], form: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _map(tree, form)


def test_an_invalid_tree_in_a_file_is_a_one_line_error(tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_text("name: x\nform: list\nlabels: l\nimage: [i]\ntree: {a: [a]}\ntargets: {A: {any_of: [a]}}\n")
    with pytest.raises(UsageError, match="'a' is below itself"):
        read_label_map(str(path))
