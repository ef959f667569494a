"""Parsing of releases, for any numbers, folders and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from chexvision.data.dataset import targets_of
from chexvision.errors import UsageError
from chexvision.images.sources import flat_name
from chexvision.label_maps.label_map import read_label_map
from chexvision.label_maps.label_values import label_values
from chexvision.label_maps.table_rows import TableRow
from chexvision.labels import ABNORMAL, UNCERTAIN
from chexvision.releases import chexpert, mimic
from chexvision.releases.located import assign, pixels, whole

FOLDERS = st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9 .()&-]{0,12}", fullmatch=True), max_size=4)
PADCHEST, CHEXPERT = read_label_map("padchest"), read_label_map("chexpert")
TREE = sorted(
    {*PADCHEST.tree, *(label for below in PADCHEST.tree.values() for label in below), "scoliosis", "normal"}
)
CELLS = st.sampled_from(["", "1.0", "0.0", "-1.0"])


@settings(max_examples=40)
@given(
    FOLDERS, FOLDERS, st.integers(0, 10**6), st.integers(1, 99), st.integers(1, 9), st.sampled_from(["jpg", "png"])
)
def test_a_chexpert_image_has_the_key_of_its_row_in_any_folder(
    listed: list[str], found: list[str], patient: int, study: int, view: int, suffix: str
) -> None:
    tail = f"patient{patient:05d}/study{study}/view{view}_frontal"
    key = chexpert._key("/".join([*listed, f"{tail}.jpg"]))
    assert key == tail == chexpert._key("/".join([*found, f"{tail}.{suffix}"]))
    assert chexpert._name("/".join([*found, f"{tail}.jpg"])) == flat_name(f"{tail}.jpg")


@settings(max_examples=40)
@given(FOLDERS, st.from_regex(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}", fullmatch=True), st.sampled_from(["jpg", "dcm"]))
def test_a_mimic_image_is_found_by_its_identifier(folders: list[str], image: str, suffix: str) -> None:
    assert mimic._key("/".join([*folders, f"{image}.{suffix}"])) == image


@settings(max_examples=40)
@given(st.text(max_size=30))
def test_numbers_are_digits_or_refused(cell: str) -> None:
    try:
        number = whole(cell, "subject", "t.csv, line 2")
    except UsageError as error:
        assert str(error) == "t.csv, line 2: no subject number"  # nothing of the cell
    else:
        assert int(cell) == number < 10**15
    side = pixels(cell)
    assert side is None or 0 <= side < 10**6


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from(["train", "validation", "test"])), max_size=12))
def test_no_patient_is_assigned_to_two_splits(rows: list[tuple[int, str]]) -> None:
    splits: dict[int, str] = {}
    try:
        for patient, split in rows:
            assign(splits, patient, split, "t.csv, line 2")
    except UsageError:
        assert len({split for patient, split in rows if patient in splits}) > 1
    else:
        assert len(set(rows)) == len(splits)


@settings(max_examples=40)
@given(st.lists(st.sampled_from(TREE), max_size=4), st.sampled_from(["'", '"', ""]), st.booleans())
def test_a_list_of_padchest_means_its_labels_and_those_above_them(
    labels: list[str], quote: str, padded: bool
) -> None:
    cell = "[" + (", " if padded else ",").join(f"{quote}{label}{quote}" for label in labels) + "]"
    row = TableRow("t.csv, line 2", {"Labels": cell})
    (found,) = label_values([row], PADCHEST, Path("t.csv"), strict=True, contradictions=True)
    for name, target in PADCHEST.targets.items():
        implied = set().union(*(PADCHEST.below(label) for label in target.any_of))
        assert (found[name] == 1) == bool(implied & set(labels)), name
    assert (found["Other Finding"] == 1) == ("scoliosis" in labels)
    assert (found[ABNORMAL] == 0) == (set(labels) == {"normal"})


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(sorted(CHEXPERT.targets)), CELLS), CELLS)
def test_a_blank_cell_of_chexpert_is_no_only_with_no_finding(cells: dict[str, str], normal: str) -> None:
    heads = {label for target in CHEXPERT.targets.values() for label in target.any_of}
    by_label = {CHEXPERT.targets[name].any_of[0]: cell for name, cell in cells.items()}
    row = dict.fromkeys(heads, "") | by_label | {"No Finding": normal}
    (found,) = label_values([TableRow("x", row)], CHEXPERT, Path("t.csv"), strict=True, contradictions=True)
    for name, target in CHEXPERT.targets.items():
        value, cell = found[name], row[target.any_of[0]]
        if cell:
            assert value == {"1.0": 1, "0.0": 0, "-1.0": UNCERTAIN}[cell]
        else:
            assert value == 0 if normal == "1.0" else value != value


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(sorted(CHEXPERT.targets)), CELLS))
def test_uncertain_cells_are_trained_as_blank_ones_unless_a_policy_says_more(cells: dict[str, str]) -> None:
    """U-Ignore: which labels are uncertain and which are not mentioned changes no target."""
    heads = {name: target.any_of[0] for name, target in CHEXPERT.targets.items()}
    row = {**dict.fromkeys(heads.values(), ""), "No Finding": ""} | {
        heads[name]: cell for name, cell in cells.items()
    }
    rows = [row, {head: "" if cell == "-1.0" else cell for head, cell in row.items()}]
    read = label_values(
        [TableRow("x", one) for one in rows], CHEXPERT, Path("t.csv"), strict=True, contradictions=True
    )
    findings = np.array([[found[name] for name in heads] for found in read], np.float32)
    targets = targets_of(findings, "ignore")
    np.testing.assert_array_equal(targets[0], targets[1])
    assert np.array_equal(np.isnan(targets[0, :-1]), [row[head] in ("", "-1.0") for head in heads.values()])
    ones = targets_of(findings, "ones")[0, :-1]
    assert np.array_equal(ones == 1, [row[head] in ("1.0", "-1.0") for head in heads.values()])
