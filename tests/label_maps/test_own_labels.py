"""Shards of one's own labels: the table, the map, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from chexvision.cli import main
from chexvision.errors import ChexError, UsageError
from chexvision.label_maps.label_map import read_label_map
from chexvision.label_maps.labeled_images import read_labeled_images
from chexvision.label_maps.other_labels import read_other_labels
from chexvision.labels import NIH
from chexvision.shards.verify import verify_shards
from tests.label_maps.own_set import Set, rows_of
from tests.shards.conftest import tree


def test_shards_have_the_labels_patients_and_splits_of_the_table(own: Set, tmp_path: Path) -> None:
    manifest = own.build(tmp_path / "out")
    assert manifest.label_space.findings == ("Effusion", "Lung opacity")
    assert {name: (of.images, of.patients) for name, of in manifest.splits.items()} == {
        "train": (3, 2),
        "validation": (1, 1),
        "test": (1, 1),
    }
    assert (manifest.source.metadata, manifest.split.name, manifest.bad) == ("my.csv", "my.csv", ())
    rows = rows_of(tmp_path / "out")
    labels = {name: (row["labels"], row["uncertain"], row["unknown"]) for name, row in rows.items()}
    assert labels == {
        "a__1.png": ("Effusion", None, None),
        "a__2.png": ("No Finding", None, None),
        "b__1": ("Lung opacity", "Effusion", None),
        "b__2.png": ("", None, "Effusion"),
        "b__3.png": ("", None, "Lung opacity"),
    }
    assert {name: (row["age"], row["sex"]) for name, row in rows.items()} == {
        "a__1.png": (61, "F"),
        "a__2.png": (61, "F"),
        "b__1": (47, "M"),
        "b__2.png": (33, "M"),
        "b__3.png": (None, "F"),
    }
    assert all(check.ok for check in verify_shards(tmp_path / "out", sample=0, seed=0, workers=1))


def test_no_name_of_a_patient_is_in_the_shards(own: Set, tmp_path: Path) -> None:
    own.build(tmp_path / "out")
    assert [row["patient_id"] for row in rows_of(tmp_path / "out").values()] == [4, 1, 1, 2, 3]
    assert not any(b"DOE" in data for data in tree(tmp_path / "out").values())
    assert "NIH" not in (tmp_path / "out" / "README.md").read_text()


def test_equal_input_gives_equal_bytes(own: Set, tmp_path: Path) -> None:
    own.build(tmp_path / "one", workers=1)
    own.build(tmp_path / "two", workers=3)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_without_a_split_column_patients_are_divided(own: Set, tmp_path: Path) -> None:
    own.write(label_map=("split: [fold]\n", ""))
    manifest = own.build(tmp_path / "out")
    assert manifest.split.name == "patient"
    assert set(manifest.splits) == {"train", "validation", "test"}
    splits: dict[int, set[str]] = {}
    for path in (tmp_path / "out" / "data").glob("*.parquet"):
        for patient in pq.read_table(path)["patient_id"].to_pylist():
            splits.setdefault(patient, set()).add(path.name.split("-")[0])
    assert all(len(of) == 1 for of in splits.values()) and len(splits) == 4


def test_a_cell_may_have_any_separator_of_lines(own: Set) -> None:
    own.write(table=("DOE-2,train", "DOE\u2028-2,train"))
    assert len(read_labeled_images(own.table, read_label_map(str(own.map)))[1]) == 5


def test_plain_names_are_found_in_any_folder(own: Set, tmp_path: Path) -> None:
    own.table.write_text(
        "file,patient,fold,years,sex,Effusion,Opacity\nmore.png,x,train,,,yes,no\n2.png,y,test,,,no,no\n"
    )
    manifest = own.build(tmp_path / "out", max_bad=0.5)
    assert sorted(rows_of(tmp_path / "out")) == ["2.png", "more.png"]
    assert [one.reason for one in manifest.bad] == ["a second file of this name: b/2.png"]


def test_images_that_are_missing_are_bad(own: Set, tmp_path: Path) -> None:
    (own.images / "a" / "2.png").unlink()
    with pytest.raises(ChexError, match=r"1 of 5 images are bad.*a__2.png: not found \(.*my.csv, line 3\)"):
        own.build(tmp_path / "out")
    assert own.build(tmp_path / "out", max_bad=0.3).images == 4


def test_an_abnormal_image_without_a_target_is_unknown(own: Set) -> None:
    own.write(
        table=("Opacity\n", "Opacity,Other,Normal\n"),
        label_map=("targets:", "normal: Normal\nalso_abnormal: [Other]\ntargets:"),
    )
    lines = own.table.read_text().splitlines()
    ends = (",no,no", ",yes,no", ",no,no", ",no,no", ",,yes")
    own.table.write_text("\n".join([lines[0], *(line + end for line, end in zip(lines[1:], ends, strict=True))]))
    space, images = read_labeled_images(own.table, read_label_map(str(own.map)))
    assert space.normal == "Normal"
    assert np.isnan(images[1].values).all()  # no target, but not normal
    assert images[4].values == (0.0, 0.0)  # blanks of a normal image


REFUSED: list[tuple[dict[str, tuple[str, str]], str]] = [
    (
        {"table": ("yes,no", "yess,no")},
        r"line 2: 'yess' in column 'Effusion' is none of yes, no, maybe or blank",
    ),
    ({"table": ("DOE-3", "")}, "my.csv, line 5 names no patient"),
    ({"table": ("b/2.png", "")}, "my.csv, line 5 names no image"),
    ({"table": ("a/2.png", "a/1.png")}, "line 3 names a/1.png again, first in .*line 2"),
    ({"table": (",val,", ",holdout,")}, "line 5: 'holdout' in column 'fold' is not train, validation or test"),
    ({"table": ("DOE-3", "DOE-1")}, "line 5: its patient is in two splits, train and validation"),
    ({"table": ("61", "old")}, "line 2: 'old' is not an age in years"),
    ({"table": ("yes,no", "yes,no,yes")}, "my.csv, line 2 has 8 cells for 7 columns"),
    ({"table": ("Opacity", "Effusion")}, "my.csv has several columns 'Effusion'"),
    ({"table": ("Opacity", "Other")}, "has no column 'Opacity'; its columns are file, patient"),
    ({"label_map": ("[patient]", "[person]")}, "has no column 'person'"),
    ({"label_map": ("Lung opacity", "Lung/opacity")}, "cannot be the findings of shards"),
    ({"label_map": ("Lung opacity", "Abnormal")}, "cannot be the findings of shards"),
    ({"label_map": ("[file]", "[file]\nsuffix: .dcm")}, "none of the .* images|not found"),
    (
        {"label_map": ("patient: [patient]", 'patient_pattern: "^a/|b/(.)"')},
        "line 2: no patient in 'a/1.png' by the pattern",
    ),
    ({"label_map": ("form: columns", "form: rows")}, "form: Input should be"),
    ({"label_map": ("name: Ours", "nam: Ours")}, "map.yaml"),
]


@pytest.mark.parametrize(("changed", "message"), REFUSED)
def test_what_is_refused(changed: dict[str, tuple[str, str]], message: str, own: Set, tmp_path: Path) -> None:
    own.write(**changed)
    with pytest.raises(ChexError, match=message) as refused:
        own.build(tmp_path / "out")
    assert "DOE" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_these_images_is_refused(own: Set, tmp_path: Path) -> None:
    own.images = own.images / "a"
    with pytest.raises(UsageError, match=r"none of the 5 images of .* is in .*/a, first a/1.png; name the folder"):
        own.build(tmp_path / "out")


def test_the_same_map_serves_evaluation(own: Set) -> None:
    found = read_other_labels(own.table, read_label_map(str(own.map)))
    assert found.names == ("Effusion", "Lung opacity")
    np.testing.assert_array_equal(found.targets, [[1, 0], [0, 0], [np.nan, 1], [np.nan, 0], [0, np.nan]])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--labels", "my.csv"], "your own labels need --labels CSV and --map MAP"),
        (["--labels", "my.csv", "--map", "map.yaml", "--metadata", "my.csv"], "give one of them"),
        (
            ["--labels", "my.csv", "--map", "map.yaml", "--split", "my.csv"],
            "csv are numbered by the build",
        ),
        (["--labels", "my.csv", "--map", "nomap"], "no label map 'nomap'"),
    ],
)
def test_options(words: list[str], message: str, own: Set, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                 monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["shards", "build", "--images", "images", "--out", "out", *words])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_the_tables_own_split_is_the_official_one(own: Set, tmp_path: Path) -> None:
    assert own.build(tmp_path / "one") == own.build(tmp_path / "two", split="official")
    own.write(label_map=("split: [fold]\n", ""))
    with pytest.raises(UsageError, match="--split official needs a column with train, validation and test: name it"):
        own.build(tmp_path / "out", split="official")


def test_a_target_is_predicted_by_the_finding_of_its_name_or_else_by_those_it_names() -> None:
    label_map = read_label_map("chexpert")
    of_nih, lacking = label_map.for_model(NIH)
    assert of_nih.findings_of("Lung Lesion") == ("Nodule", "Mass")
    assert set(lacking) == {"Enlarged Cardiomediastinum", "Lung Opacity", "Pleural Other", "Fracture"}
    assert set(of_nih.also_abnormal) == set(lacking)  # an image with a fracture alone is still abnormal
    of_its_own, lacking = label_map.for_model(label_map.label_space)
    assert of_its_own.findings_of("Lung Lesion") == ("Lung Lesion",) and lacking == ()


def test_rest_stands_for_the_labels_that_are_in_no_target(own: Set, tmp_path: Path) -> None:
    own.table.write_text("file,labels\na/1.png,Effusion;Other\na/2.png,Other\nb/2.png,Normal\nb/3.png,Effusion\n")
    own.map.write_text(
        "name: Ours\nimage: [file]\nform: list\nlabels: labels\nseparator: ';'\nnormal: Normal\nrest: Others\n"
        "targets:\n  Effusion: {any_of: [Effusion]}\n"
    )
    own.build(tmp_path / "out")
    assert {name: row["labels"] for name, row in rows_of(tmp_path / "out").items()} == {
        "a__1.png": "Effusion|Others",
        "a__2.png": "Others",
        "b__2.png": "Normal",
        "b__3.png": "Effusion",
    }
    own.map.write_text(own.map.read_text().replace("form: list\nlabels: labels", "form: columns"))
    with pytest.raises(UsageError, match="rest: is of the labels of form: list"):
        read_label_map(str(own.map))


LISTS = "name: Ours\nimage: [file]\nform: list\nlabels: labels\ntargets:\n  Effusion: {any_of: [Effusion]}\n"


def test_a_list_may_write_normal_in_several_ways(own: Set) -> None:
    own.table.write_text("file,labels\n1.png,No Finding\n2.png,none\n3.png,\n4.png,Effusion\n")
    own.map.write_text(f"{LISTS}normal: [No Finding, None]\n")
    space, images = read_labeled_images(own.table, read_label_map(str(own.map)))
    assert space.normal == "No Finding"
    np.testing.assert_array_equal([image.values[0] for image in images], [0, 0, np.nan, 1])
    found = read_other_labels(own.table, read_label_map(str(own.map)))
    np.testing.assert_array_equal(found.targets, [[0, 0], [0, 0], [np.nan, np.nan], [1, 1]])


@pytest.mark.parametrize("rest", ["", "rest: Others\n"])
def test_none_in_a_list_has_to_be_explained(own: Set, rest: str) -> None:
    own.table.write_text("file,labels\n1.png,Effusion\n2.png,None\n")
    own.map.write_text(f"{LISTS}normal: [No Finding]\n{rest}")
    with pytest.raises(UsageError, match=r"line 3: the label 'none' may mean no finding or no labels; add "):
        read_labeled_images(own.table, read_label_map(str(own.map)))
    own.map.write_text(f"{LISTS}unknown_if: [None]\n{rest}")
    _, images = read_labeled_images(own.table, read_label_map(str(own.map)))
    assert np.isnan(images[1].values).all()


def test_cells_may_count_as_blank(own: Set) -> None:
    own.write(label_map=("uncertain: [maybe]", "unknown_if: [maybe]"))
    _, images = read_labeled_images(own.table, read_label_map(str(own.map)))
    assert math.isnan(images[2].values[0]) and images[2].values[1] == 1
    own.write(label_map=("uncertain: [maybe]", "unknown_if: ['no']"))
    with pytest.raises(UsageError, match="'no' is both negative and unknown_if"):
        read_label_map(str(own.map))
