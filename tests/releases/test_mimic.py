"""MIMIC-CXR as shards, from JPEG and DICOM files."""

from __future__ import annotations

import csv
import io

import numpy as np

from chexvision.label_maps.label_map import read_label_map
from tests.present import decoded
from tests.releases.conftest import Get, manifest_of


def test_mimic_joins_labels_views_and_splits(release: Get) -> None:
    on_disk = release("mimic")
    assert on_disk.build() == 0
    rows = on_disk.rows()
    labels = {row["study_id"]: row for row in csv.DictReader(io.StringIO(on_disk.text("chexpert")))}
    split = {row["dicom_id"]: row["split"] for row in csv.DictReader(io.StringIO(on_disk.text("split")))}
    names = {"validate": "validation"}
    for image in csv.DictReader(io.StringIO(on_disk.text("metadata"))):
        if image["ViewPosition"] not in ("PA", "AP") or image["study_id"] not in labels:
            assert f"{image['dicom_id']}.jpg" not in rows
            continue
        row = rows[f"{image['dicom_id']}.jpg"]
        assert row["patient_id"] == int(image["subject_id"]) and row["study_id"] == int(image["study_id"])
        assert (row["original_width"], row["original_height"]) == (int(image["Columns"]), int(image["Rows"]))
        assert row["view"] == image["ViewPosition"]
        assert ("Effusion" in row["labels"].split("|")) == (labels[image["study_id"]]["Pleural Effusion"] == "1.0")
        assert row["patient_id"] in on_disk.splits()[names.get(split[image["dicom_id"]], split[image["dicom_id"]])]
    assert {one.reason for one in manifest_of(on_disk).left_out} == {
        "lateral view; --views all keeps them", "neither a frontal nor a lateral view", "no labels of its study",
    }  # fmt: skip


def test_mimics_dicom_files_give_the_rows_of_its_jpeg_files(release: Get) -> None:
    jpeg, dicom = release("mimic"), release("mimic-dicom")
    assert jpeg.build() == dicom.build() == 0
    rows, others = jpeg.rows(), {name.replace(".dcm", ".jpg"): row for name, row in dicom.rows().items()}
    assert set(rows) == set(others)
    for name, row in rows.items():
        other = others[name]
        assert {k: v for k, v in row.items() if k not in ("image", "filename")} == {
            k: v for k, v in other.items() if k not in ("image", "filename")
        }
        one, two = (decoded(found["image"]["bytes"]).astype(int) for found in (row, other))
        assert np.abs(one - two).mean() < 3, name  # JPEG's loss; an inverted image differs by 100


def test_mimic_without_its_split_is_divided_by_patient(release: Get) -> None:
    on_disk = release("mimic")
    on_disk.table("split").unlink()
    assert on_disk.build() == 0
    assert manifest_of(on_disk).split.name == "patient"


def test_labels_of_negbio_are_read_where_they_are_named(release: Get) -> None:
    on_disk = release("mimic")
    on_disk.replace("negbio", ",1.0", ",0.0", count=10**6)
    assert on_disk.build("--metadata", str(on_disk.table("negbio"))) == 0
    assert manifest_of(on_disk).source.metadata == "mimic-cxr-2.0.0-negbio.csv.gz"
    assert {row["labels"] for row in on_disk.rows().values()} <= {"", "No Finding"}


def test_mimics_labels_are_those_of_chexpert() -> None:
    assert read_label_map("mimic").targets == read_label_map("chexpert").targets
