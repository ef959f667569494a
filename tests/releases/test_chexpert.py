"""CheXpert as shards."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
from pathlib import Path

from chexvision.images.sources import find_images
from chexvision.labels import UNCERTAIN, LabelSpace
from chexvision.releases.release import Reading
from chexvision.releases.sets import read_release
from tests.releases.conftest import IMAGES, Get, manifest_of


def test_chexpert_labels_patients_and_splits_are_those_of_its_tables(release: Get) -> None:
    on_disk = release("chexpert")
    assert on_disk.build() == 0
    rows, manifest = on_disk.rows(), manifest_of(on_disk)
    assert manifest.label_space.findings[-5:] == (
        "Enlarged Cardiomediastinum", "Lung Opacity", "Lung Lesion", "Pleural Other", "Fracture",
    )  # fmt: skip
    assert "Effusion" in manifest.label_space.findings and "Support Devices" not in manifest.label_space.findings
    seen, sexes = set(), set()
    for table in ("train", "valid", "test"):
        for cells in csv.DictReader(io.StringIO(on_disk.text(f"{table}.csv"))):
            if cells["AP/PA"] not in ("AP", "PA"):
                assert cells["AP/PA"] == {"Frontal": "LL", "Lateral": ""}[cells["Frontal/Lateral"]]
                continue
            name = "__".join(cells["Path"].split("/")[-3:])
            row = rows[name]
            assert row["patient_id"] == int(name[7:12])
            assert row["age"] == (int(cells["Age"]) or None) and row["view"] == cells["AP/PA"]
            assert row["sex"] == {"Male": "M", "Female": "F", "Unknown": None}[cells["Sex"]]
            sexes.add(row["sex"])
            values = manifest.label_space.values(row["labels"], row["uncertain"], row["unknown"])
            normal = cells["No Finding"] == "1.0"
            for finding, value in zip(manifest.label_space.findings, values, strict=True):
                cell = cells["Pleural Effusion" if finding == "Effusion" else finding]
                expected = {"1.0": 1.0, "0.0": 0.0, "-1.0": UNCERTAIN, "": 0.0 if normal else math.nan}[cell]
                assert value == expected or (math.isnan(value) and math.isnan(expected)), (name, finding)
                seen.add(str(value))
    assert seen == {"1.0", "0.0", "-1.0", "nan"} and sexes == {"M", "F", None}
    assert {one.reason: one.images for one in manifest.left_out}["neither a frontal nor a lateral view"] == 1
    patients = {
        split: {int(line[7:12]) for line in re.findall(r"patient\d{5}", on_disk.text(f"{table}.csv"))}
        for split, table in (("train", "train"), ("validation", "valid"), ("test", "test"))
    }
    assert on_disk.splits() == patients
    assert manifest.split.name == "official"


def test_chexperts_validation_images_are_the_test_split_where_it_has_none(release: Get) -> None:
    on_disk = release("chexpert")
    on_disk.table("test.csv").unlink()
    shutil.rmtree(on_disk.tables / "test")
    assert on_disk.build() == 0
    valid = {int(number) for number in re.findall(r"patient(\d{5})", on_disk.text("valid.csv"))}
    splits = on_disk.splits()
    assert splits["test"] == valid
    train = {int(number) for number in re.findall(r"patient(\d{5})", on_disk.text("train.csv"))}
    assert splits["validation"] | splits["train"] == train and splits["validation"]


def test_chexpert_in_the_batches_that_stanford_gives(release: Get) -> None:
    on_disk = release("chexpert")
    assert on_disk.build() == 0
    expected = on_disk.rows()
    shutil.rmtree(on_disk.root / "out")
    first = on_disk.root / "CheXpert-v1.0 batch 1 (validate & csv)"
    shutil.move(on_disk.tables, first)
    for i, patient in enumerate(sorted((first / "train").iterdir())):
        folder = on_disk.root / f"CheXpert-v1.0 batch {2 + i % 2} (train {1 + i % 2})"
        folder.mkdir(exist_ok=True)
        shutil.move(patient, folder / patient.name)
    assert on_disk.build(images=on_disk.root) == 0
    assert on_disk.rows() == expected


def test_chexpert_of_the_radiologists_labels_alone_needs_no_other_columns(release: Get) -> None:
    """CheXlocalize's test table has neither ages nor views."""
    on_disk = release("chexpert")
    rows = list(csv.DictReader(io.StringIO(on_disk.text("test.csv"))))
    text = io.StringIO()
    heads = [head for head in rows[0] if head not in ("Sex", "Age", "Frontal/Lateral", "AP/PA")]
    writer = csv.DictWriter(text, heads, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(row | {"Path": row["Path"].removeprefix("CheXpert-v1.0-small/")} for row in rows)
    on_disk.table("test.csv").unlink()
    (on_disk.tables / "test_labels.csv").write_text(text.getvalue())
    assert on_disk.build() == 0
    test = [row for row in on_disk.rows().values() if row["patient_id"] in on_disk.splits()["test"]]
    assert {(row["age"], row["sex"], row["view"]) for row in test} == {(None, None, None)}
    assert manifest_of(on_disk).left_out[0].images == IMAGES // 4 - 1


def test_devices_alone_are_normal(release: Get) -> None:
    on_disk = release("chexpert")
    heads, first, *others = on_disk.lines("test.csv")
    cells = dict(zip(heads.split(","), first.split(","), strict=True))
    for head in heads.split(",")[5:]:
        cells[head] = "1.0" if head == "Support Devices" else "0.0"
    on_disk.write("test.csv", "\n".join([heads, ",".join(cells.values()), *others]))
    assert on_disk.build() == 0
    assert on_disk.rows()["__".join(cells["Path"].split("/")[-3:])]["labels"] == "No Finding"


def test_a_release_in_an_archive(release: Get) -> None:
    on_disk = release("chexpert")
    assert on_disk.build() == 0
    rows = on_disk.rows()
    shutil.rmtree(on_disk.root / "out")
    folders = [on_disk.tables / name for name in ("train", "valid", "test")]
    archives = [Path(shutil.make_archive(str(folder), "zip", folder.parent, folder.name)) for folder in folders]
    for folder in folders:
        shutil.rmtree(folder)
    assert len(archives) == 3 and on_disk.build() == 0
    assert on_disk.rows() == rows
    found = read_release(Reading("chexpert", (on_disk.tables,)))
    assert sorted(image.name for image in found.index.images) == sorted(rows)
    assert isinstance(found.space, LabelSpace) and len(find_images([on_disk.tables], by_path=True).images) == IMAGES
    assert json.loads((on_disk.root / "out" / "manifest.json").read_text())["format"] == 3
