"""Shards of CheXpert, MIMIC-CXR and PadChest, read from synthetic releases in the real layouts."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest
import yaml

from chexvision.errors import UsageError
from chexvision.images.reading import read_radiograph
from chexvision.images.sources import find_images
from chexvision.labels import NIH, UNCERTAIN, LabelSpace
from chexvision.releases.release import Reading
from chexvision.releases.sets import SETS, read_release, set_of
from chexvision.shards.build import build_shards
from chexvision.shards.manifest import Manifest, read_manifest
from chexvision.shards.verify import verify_shards
from chexvision.synthetic.layouts.dicom_file import dicom_file
from chexvision.synthetic.layouts.write_release import LAYOUTS, write_release
from tests.present import decoded, present
from tests.releases.built import OPTIONS
from tests.releases.conftest import IMAGES, OnDisk

Get = Callable[[str], OnDisk]
NAMES = ("chexpert", "mimic", "mimic-dicom", "padchest")


def manifest_of(release: OnDisk) -> Manifest:
    return present(read_manifest(release.root / "out"))


@pytest.mark.parametrize("name", NAMES)
def test_a_release_becomes_valid_shards_without_laterals(name: str, release: Get) -> None:
    on_disk = release(name)
    assert on_disk.build() == 0
    manifest = manifest_of(on_disk)
    assert all(check.ok for check in verify_shards(on_disk.root / "out", sample=0, seed=0, workers=1))
    assert manifest.bad == ()
    reasons = {one.reason: one.images for one in manifest.left_out}
    assert reasons["lateral view; --views all keeps them"] == IMAGES // 4
    assert manifest.images + sum(reasons.values()) == IMAGES
    dataset = present(manifest.dataset)
    assert (dataset.name, dataset.views, dataset.studies) == (name.removesuffix("-dicom"), "frontal", True)
    assert dataset.terms == SETS[dataset.name].terms
    assert {row["view"] for row in on_disk.rows().values()} == {"PA", "AP"}
    assert len({(row["patient_id"], row["study_id"]) for row in on_disk.rows().values()}) == manifest.images


@pytest.mark.parametrize("name", NAMES)
def test_all_views_keeps_laterals(name: str, release: Get) -> None:
    on_disk = release(name)
    assert on_disk.build("--views", "all") == 0
    views = [row["view"] for row in on_disk.rows().values()]
    assert views.count("L") == IMAGES // 4
    assert present(manifest_of(on_disk).dataset).views == "all"
    studies = [(row["patient_id"], row["study_id"]) for row in on_disk.rows().values()]
    assert len(set(studies)) < len(studies)  # a lateral has the study of its frontal image


@pytest.mark.parametrize("name", ["mimic-dicom", "padchest"])
def test_equal_input_gives_equal_bytes_for_any_number_of_workers(name: str, release: Get) -> None:
    on_disk = release(name)
    found = []
    for workers in ("1", "3"):
        assert on_disk.build("--workers", workers) == 0
        found.append({path.name: path.read_bytes() for path in (on_disk.root / "out").rglob("*") if path.is_file()})
        shutil.rmtree(on_disk.root / "out")
    assert found[0] == found[1]


def test_chexpert_labels_patients_and_splits_are_those_of_its_tables(release: Get) -> None:
    on_disk = release("chexpert")
    assert on_disk.build() == 0
    rows, manifest = on_disk.rows(), manifest_of(on_disk)
    assert manifest.label_space.findings[-5:] == (
        "Enlarged Cardiomediastinum", "Lung Opacity", "Lung Lesion", "Pleural Other", "Fracture",
    )  # fmt: skip
    assert "Effusion" in manifest.label_space.findings and "Support Devices" not in manifest.label_space.findings
    seen = set()
    for table in ("train", "valid", "test"):
        for cells in csv.DictReader(io.StringIO(on_disk.text(f"{table}.csv"))):
            if cells["Frontal/Lateral"] == "Lateral":
                continue
            name = "__".join(cells["Path"].split("/")[-3:])
            row = rows[name]
            assert row["patient_id"] == int(name[7:12])
            assert row["age"] == int(cells["Age"]) and row["sex"] == cells["Sex"][0] and row["view"] == cells["AP/PA"]
            values = manifest.label_space.values(row["labels"], row["uncertain"], row["unknown"])
            normal = cells["No Finding"] == "1.0"
            for finding, value in zip(manifest.label_space.findings, values, strict=True):
                cell = cells["Pleural Effusion" if finding == "Effusion" else finding]
                expected = {"1.0": 1.0, "0.0": 0.0, "-1.0": UNCERTAIN, "": 0.0 if normal else math.nan}[cell]
                assert value == expected or (math.isnan(value) and math.isnan(expected)), (name, finding)
                seen.add(str(value))
    assert seen == {"1.0", "0.0", "-1.0", "nan"}
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
    assert {one.reason for one in manifest_of(on_disk).left_out} == {"lateral view; --views all keeps them"}


def test_devices_alone_are_normal(release: Get) -> None:
    on_disk = release("chexpert")
    heads, first, *others = on_disk.lines("test.csv")
    cells = dict(zip(heads.split(","), first.split(","), strict=True))
    for head in heads.split(",")[5:]:
        cells[head] = "1.0" if head == "Support Devices" else "0.0"
    on_disk.write("test.csv", "\n".join([heads, ",".join(cells.values()), *others]))
    assert on_disk.build() == 0
    assert on_disk.rows()["__".join(cells["Path"].split("/")[-3:])]["labels"] == "No Finding"


def test_mimic_joins_labels_views_and_splits(release: Get) -> None:
    on_disk = release("mimic")
    assert on_disk.build() == 0
    rows = on_disk.rows()
    labels = {row["study_id"]: row for row in csv.DictReader(io.StringIO(on_disk.text("chexpert")))}
    split = {row["dicom_id"]: row["split"] for row in csv.DictReader(io.StringIO(on_disk.text("split")))}
    names = {"validate": "validation"}
    for image in csv.DictReader(io.StringIO(on_disk.text("metadata"))):
        if image["ViewPosition"] not in ("PA", "AP"):
            assert f"{image['dicom_id']}.jpg" not in rows
            continue
        row = rows[f"{image['dicom_id']}.jpg"]
        assert row["patient_id"] == int(image["subject_id"]) and row["study_id"] == int(image["study_id"])
        assert (row["original_width"], row["original_height"]) == (int(image["Columns"]), int(image["Rows"]))
        assert row["view"] == image["ViewPosition"]
        assert ("Effusion" in row["labels"].split("|")) == (labels[image["study_id"]]["Pleural Effusion"] == "1.0")
        assert row["patient_id"] in on_disk.splits()[names.get(split[image["dicom_id"]], split[image["dicom_id"]])]
    assert {one.reason for one in manifest_of(on_disk).left_out} == {
        "lateral view; --views all keeps them", "neither a frontal nor a lateral view",
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


def test_padchest_numbers_patients_and_keeps_other_findings(release: Get) -> None:
    on_disk = release("padchest")
    assert on_disk.build() == 0
    rows, manifest = on_disk.rows(), manifest_of(on_disk)
    assert manifest.label_space.findings == (*NIH.findings, "Fracture", "Other Finding")
    seen = set()
    for cells in csv.DictReader(io.StringIO(on_disk.text("PADCHEST"))):
        if cells["Projection"] == "L":
            continue
        row = rows[cells["ImageID"]]
        assert row["age"] == int(cells["StudyDate_DICOM"][:4]) - int(float(cells["PatientBirth"]))
        assert row["view"] == cells["Projection"].split("_")[0]
        known = manifest.label_space.values(row["labels"], row["uncertain"], row["unknown"])
        values = dict(zip(manifest.label_space.findings, known, strict=True))
        if cells["Labels"] in ("", "['unchanged']"):
            assert all(math.isnan(value) for value in values.values())
        else:
            assert (values["Other Finding"] == 1) == ("scoliosis" in cells["Labels"])
            assert (values["Effusion"] == 1) == ("pleural effusion" in cells["Labels"])
            assert not any(math.isnan(value) for name, value in values.items() if name not in ("Infiltration",))
        seen.add(cells["Labels"])
    assert {"['normal']", "['scoliosis']"} <= seen
    assert manifest.split.name == "patient"
    patients = [row["patient_id"] for row in rows.values()]
    assert max(patients) <= IMAGES
    for path in (path for path in (on_disk.root / "out").rglob("*") if path.is_file()):
        assert b"3000000010" not in path.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_above_or_below_the_root_is_enough(name: str, release: Get) -> None:
    on_disk = release(name)
    assert on_disk.build(images=on_disk.root) == 0
    rows = on_disk.rows()
    shutil.rmtree(on_disk.root / "out")
    if name.startswith("mimic"):
        assert on_disk.build(images=on_disk.images / "files" / "p10") == 0
        assert on_disk.rows() == rows


@pytest.mark.parametrize("name", ["chexpert", "mimic", "padchest"])
def test_byte_order_marks_and_line_ends_of_windows_change_nothing(name: str, release: Get) -> None:
    on_disk = release(name)
    assert on_disk.build() == 0
    rows = on_disk.rows()
    shutil.rmtree(on_disk.root / "out")
    for path in (path for path in on_disk.tables.iterdir() if ".csv" in path.name):
        data = path.read_bytes()
        packed = data[:2] == b"\x1f\x8b"
        changed = b"\xef\xbb\xbf" + (gzip.decompress(data) if packed else data).replace(b"\n", b"\r\n")
        path.write_bytes(gzip.compress(changed) if packed else changed)
    assert on_disk.build() == 0
    assert on_disk.rows() == rows


def test_files_that_no_table_names_are_counted(release: Get) -> None:
    on_disk = release("chexpert")
    shutil.copy(on_disk.image("frontal"), on_disk.tables / "note.jpg")
    assert on_disk.build() == 0
    assert ("in none of the tables", 1) in [(one.reason, one.images) for one in manifest_of(on_disk).left_out]


def test_a_second_copy_of_an_image_is_bad(release: Get, capsys: pytest.CaptureFixture[str]) -> None:
    on_disk = release("mimic")
    image = on_disk.image(".jpg")
    copied = on_disk.images / "small" / image.name
    copied.parent.mkdir()
    shutil.copy(image, copied)
    assert on_disk.build("--max-bad", "0.5") == 0
    said = capsys.readouterr().err
    assert f"left out {image.name}: a second file of this name: small/" in said or "of this name: files/" in said


@pytest.mark.parametrize("name", LAYOUTS)
def test_equal_arguments_write_equal_releases(name: str, tmp_path: Path) -> None:
    size = 64 if name == "chestmnist" else 32  # its smallest
    for folder in ("one", "again"):
        write_release(name, tmp_path / folder, images=12, seed=3, size=size)
    trees = [
        {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
        for root in (tmp_path / "one", tmp_path / "again")
    ]
    assert trees[0] == trees[1]
    with pytest.raises(UsageError, match="exists and is not empty"):
        write_release(name, tmp_path / "again", images=12, seed=3, size=size)


@pytest.mark.parametrize("monochrome1", [False, True])
def test_a_synthetic_dicom_file_is_one_for_other_readers(monochrome1: bool) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (33, 47), dtype=np.uint8)
    data = dicom_file(grey, "1.2.3.4", "PA", monochrome1=monochrome1)
    found = pydicom.dcmread(io.BytesIO(data))
    values = found.pixel_array if not monochrome1 else 4095 - found.pixel_array
    assert np.abs(values - np.round(grey * (4095 / 255))).max() <= 1
    assert (found.ViewPosition, found.Modality, found.BodyPartExamined) == ("PA", "DX", "CHEST")
    assert np.abs(read_radiograph(data).pixels.astype(int) - grey).max() <= 1


def test_sets_are_named_in_the_message_of_an_unknown_one() -> None:
    with pytest.raises(UsageError, match=r"--set 'chexbert' is none of nih, .*chexpert.*csv"):
        set_of("chexbert")
    with pytest.raises(UsageError, match="is none of"):
        set_of("chexpert:USER/NAME")


def test_terms_of_sets_are_complete() -> None:
    for name, one in SETS.items():
        if one.terms is not None:
            assert one.terms.license_link.startswith("https://") and one.terms.homepage.startswith("https://"), name
            assert (one.terms.license == "other") == (one.terms.license_name is not None), name
            assert re.search(r"\d{4}", one.terms.citation), name
    assert {name for name in ("chexpert", "mimic", "padchest") if present(SETS[name].terms).credentialed} == {
        "chexpert", "mimic", "padchest",
    }  # fmt: skip


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


def test_no_path_of_this_machine_is_in_the_shards(release: Get) -> None:
    on_disk = release("chexpert")
    on_disk.image("train/patient00001").unlink()
    assert on_disk.build("--max-bad", "0.5") == 0
    (bad,) = manifest_of(on_disk).bad
    assert bad.reason == "not found (train.csv, line 2)"
    folder = str(on_disk.root).encode()
    assert not any(folder in path.read_bytes() for path in (on_disk.root / "out").rglob("*") if path.is_file())


def test_only_images_that_are_used_count_as_duplicates(release: Get) -> None:
    on_disk = release("chexpert")
    shutil.copytree(on_disk.images, on_disk.root / "again", ignore=shutil.ignore_patterns("*.csv"))
    assert on_disk.build("--images", str(on_disk.root / "again"), "--max-bad", "1") == 0
    bad = manifest_of(on_disk).bad
    assert len(bad) == IMAGES - IMAGES // 4 and not any("lateral" in image.name for image in bad)


def test_laterals_of_ones_own_table_are_left_out(release: Get, tmp_path: Path) -> None:
    images = release("chexpert").images
    first, second = sorted(images.rglob("*frontal.jpg"))[:2]
    names = [path.relative_to(images).as_posix() for path in (first, second)]
    (tmp_path / "own.csv").write_text(f"file,side,Mass\n{names[0]},Lateral,1\n{names[1]},AP,0\n")
    label_map = tmp_path / "map.yaml"
    label_map.write_text("{name: own, image: [file], view: [side], form: columns, targets: {Mass: {any_of: [Mass]}}}")
    reading = Reading("csv", (images,), tmp_path / "own.csv", str(label_map))
    found = read_release(reading)
    assert [image.member for image in found.index.images] == [names[1]]
    assert found.left_out == (("lateral view; --views all keeps them", 1),)
    assert len(read_release(replace(reading, views="all")).index.images) == 2


@pytest.mark.parametrize(("name", "table"), [("chexpert", "train"), ("mimic", "-chexpert"), ("padchest", "PADCHEST")])
def test_a_table_that_was_cut_off_is_refused(
    name: str, table: str, release: Get, capsys: pytest.CaptureFixture[str]
) -> None:
    on_disk = release(name)
    text = on_disk.text(table).rstrip("\n")
    on_disk.write(table, text[: text.rindex(",")])
    assert on_disk.build() == 2
    assert "columns; fetch the file again" in capsys.readouterr().err


def test_the_card_names_the_columns_of_the_shards(release: Get, tmp_path: Path) -> None:
    """The only image with an uncertain label is missing."""
    images = release("chexpert").images
    name = next(images.rglob("*frontal.jpg")).relative_to(images).as_posix()
    (tmp_path / "own.csv").write_text(f"file,Mass\n{name},1\nsome/gone.jpg,-1\n")
    label_map = tmp_path / "map.yaml"
    label_map.write_text("{name: own, image: [file], form: columns, targets: {Mass: {any_of: [Mass]}}}")
    chosen = OPTIONS(dataset="csv", label_map=str(label_map), max_bad=0.5)
    build_shards([images], tmp_path / "own.csv", tmp_path / "out", chosen)
    (shard,) = (tmp_path / "out" / "data").glob("*.parquet")
    described = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---\n")[1])["dataset_info"]
    assert [column["name"] for column in described["features"]] == pq.read_schema(shard).names


@pytest.mark.parametrize("rule", ["", ", patient: [person]", ", patient_pattern: '(patient[0-9]+)'"])
def test_a_table_that_names_no_patients_says_so(rule: str, release: Get, tmp_path: Path) -> None:
    images = release("chexpert").images
    names = [path.relative_to(images).as_posix() for path in images.rglob("*frontal.jpg")]
    (tmp_path / "own.csv").write_text("file,person,Mass\n" + "".join(f"{name},7,1\n" for name in names))
    label_map = tmp_path / "map.yaml"
    label_map.write_text(f"{{name: own, image: [file], form: columns, targets: {{Mass: {{any_of: [Mass]}}}}{rule}}}")
    reading = Reading("csv", (images,), tmp_path / "own.csv", str(label_map))
    assert read_release(reading).knows_patients == bool(rule)


def test_a_folder_below_home_is_not_replaced(release: Get, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shells leave the ~ of --out=~/out as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.docx").touch()
    with pytest.raises(UsageError, match="not empty and holds no shards"):
        build_shards([release("padchest").images], None, Path("~/out"), OPTIONS(dataset="padchest"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.docx"]
