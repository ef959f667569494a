"""What is wrong with a release is one line with the place and a next step, and no shards."""

from __future__ import annotations

import gzip
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.releases.conftest import Get, OnDisk, run
from tests.shards.conftest import Release

Damage = Callable[[OnDisk], object]


def table(name: str, old: str, new: str, count: int = 1) -> Damage:
    return lambda release: release.replace(name, old, new, count)


def repeated_row(name: str) -> Damage:
    return lambda release: release.write(name, release.text(name) + release.lines(name)[1] + "\n")


def cut_gz(name: str) -> Damage:
    def damage(release: OnDisk) -> None:
        path = release.table(name)
        data = gzip.compress(release.text(name).encode())
        path.unlink()
        (path if path.suffix == ".gz" else path.with_name(f"{path.name}.gz")).write_bytes(data[: len(data) // 2])

    return damage


def without_table(name: str) -> Damage:
    return lambda release: release.table(name).unlink()


def without_images(release: OnDisk) -> None:
    for path in [*release.root.rglob("*")]:
        if path.suffix in (".jpg", ".dcm", ".png", ".zip"):
            path.unlink()


def without_image(kind: str) -> Damage:
    return lambda release: release.image(kind).unlink()


def cut_image(kind: str) -> Damage:
    def damage(release: OnDisk) -> None:
        path = release.image(kind)
        path.write_bytes(path.read_bytes()[:200])

    return damage


def column(name: str, row: int, head: str, cell: str) -> Damage:
    """Change one cell of a table without quotes."""

    def damage(release: OnDisk) -> None:
        lines = [line.split(",") for line in release.lines(name)]
        lines[row][lines[0].index(head)] = cell
        release.write(name, "\n".join(map(",".join, lines)))

    return damage


def copied(release: OnDisk) -> None:
    shutil.copytree(release.tables, release.root / "copy")


def without_patient(release: OnDisk) -> None:
    release.write("PADCHEST", re.sub(r",3000\d+,", ",,", release.text("PADCHEST"), count=1))


def first_train_row_also_valid(release: OnDisk) -> None:
    row = release.lines("train.csv")[1].replace("view1", "view9")
    release.write("valid.csv", release.text("valid.csv") + row + "\n")


CHEXPERT: list[tuple[str, Damage, int, str]] = [
    ("a column lacks", table("train.csv", "Edema", "Oedema"), 2, r"train\.csv has no column 'Edema'; its"),
    ("the paths lack", table("train.csv", "Path", "File"), 2, r"train\.csv has no column 'Path'"),
    ("an image is missing", without_image("train/patient00001"), 1,
     r"patient00001/study1/view1_frontal.jpg: not found \(.*train\.csv, line 2\); fix them or raise --max-bad"),
    ("an image is cut", cut_image("train/patient00001"), 1, r"patient00001__study1__view1_frontal.jpg: .*--max-bad"),
    ("a path leaves the folder", table("train.csv", "train/patient00001", "../../patient00001"), 2,
     r"train\.csv, line 2: '.*\.\./\.\./patient00001.*' is not a path such as train/patient00001"),
    ("a path of another set", table("train.csv", "/view1_frontal.jpg", "/1.jpg"), 2, r"line 2: .* is not a path"),
    ("a patient in two splits", first_train_row_also_valid, 2, r"valid\.csv, line \d+: patient 1 is in two splits"),
    ("a label 2", column("train.csv", 1, "Edema", "2"), 2, r"train\.csv, line 2: '2' in column 'Edema' is none"),
    ("a cut gz", cut_gz("train.csv"), 2, r"train\.csv\.gz cannot be read: "),
    ("a row twice", repeated_row("train.csv"), 2, r"line \d+ names .*view1_frontal.jpg again, first in .*line 2"),
    ("no images", without_images, 2, r"no PNG, JPEG or DICOM file in "),
    ("no table", without_table("train.csv"), 2, r"no train\.csv in or near .*; name the folder .* with --metadata"),
    ("two releases", copied, 2, r"train\.csv and .*/copy/train\.csv: name one of them with --metadata"),
    ("no age", column("train.csv", 1, "Age", "old"), 2, r"train\.csv, line 2: 'old' is not an age in years"),
    ("semicolons", table("train.csv", ",", ";", 10**6), 2, r"separated by ';'; save it with commas"),
    ("an open quote", column("train.csv", 1, "Path", '"x'), 2, r"train\.csv"),
]  # fmt: skip
MIMIC: list[tuple[str, Damage, int, str]] = [
    ("a column lacks", table("metadata", "ViewPosition", "View"), 2, r"metadata\.csv\.gz has no column 'ViewPos"),
    ("a label lacks", table("chexpert", "Pneumonia", "Pneum"), 2, r"chexpert\.csv\.gz has no column 'Pneumonia'"),
    ("an image is missing", without_image("/p10/"), 1, r"not found \(.*metadata\.csv\.gz, line \d+\); fix them or"),
    ("an image is cut", cut_image("/p10/"), 1, r"1 of \d+ images are bad, more than --max-bad 0\.001 allows"),
    ("an identifier leaves the folder", column("metadata", 1, "dicom_id", "../../x"), 2,
     r"metadata\.csv\.gz, line 2: '\.\./\.\./x' is not a dicom_id such as"),
    ("a patient's name", column("metadata", 1, "subject_id", "Doe"), 2, r"metadata\.csv\.gz, line 2: no subject"),
    ("a patient in two splits", column("split", 1, "split", "test"), 2, r"patient 100\d+ is in two splits"),
    ("another split", column("split", 1, "split", "fold1"), 2, r"'fold1' is not train, validate or test"),
    ("a patient in no split", column("split", -1, "subject_id", "19999999"), 2, r"has no split for patient 100\d+"),
    ("a label 2", column("chexpert", 1, "Edema", "2"), 2, r"chexpert\.csv\.gz, line 2: '2' in column 'Edema'"),
    ("a cut gz", cut_gz("metadata"), 2, r"metadata\.csv\.gz cannot be read: "),
    ("an image twice", repeated_row("metadata"), 2, r"metadata\.csv\.gz, line \d+ names .* again, first in .*line 2"),
    ("a study twice", repeated_row("chexpert"), 2, r"chexpert\.csv\.gz, line \d+ labels study 5\d+ again"),
    ("no images", without_images, 2, r"no PNG, JPEG or DICOM file in "),
    ("no labels", without_table("chexpert"), 2, r"no mimic-cxr-2\.0\.0-chexpert\.csv in or near .*--metadata"),
    ("no metadata", without_table("metadata"), 2, r"no mimic-cxr-2\.0\.0-metadata\.csv next to .*names the images"),
]  # fmt: skip
PADCHEST: list[tuple[str, Damage, int, str]] = [
    ("a column lacks", table("PADCHEST", "Projection", "View"), 2, r"\.csv has no column 'Projection'"),
    ("the labels lack", table("PADCHEST", ",Labels,", ",Findings,"), 2, r"\.csv has no column 'Labels'"),
    ("an image is missing", without_image("/0/"), 1, r"\.png: not found \(.*\.csv, line 2\); fix them or raise"),
    ("an image is cut", cut_image("/0/"), 1, r"1 of \d+ images are bad, more than --max-bad .*\.png: "),
    ("a name leaves the folder", table("PADCHEST", "0,1000", "0,../1000"), 2, r"line 2: '\.\./1000.*' is not the"),
    ("no patient", without_patient, 2, r"\.csv, line 2 names no patient; images of one patient could"),
    ("a cut gz", cut_gz("PADCHEST"), 2, r"\.csv\.gz cannot be read: "),
    ("a cut archive", cut_image("3.zip"), 1, r"3\.zip is damaged .*; fetch it again"),
    ("a row twice", repeated_row("PADCHEST"), 2, r"line \d+ names 1000.*\.png again, first in .*line 2"),
    ("no images", without_images, 2, r"no PNG, JPEG or DICOM file in "),
    ("no table", without_table("PADCHEST"), 2, r"no PADCHEST_chest_x_ray_images_labels_.*--metadata"),
    ("semicolons", table("PADCHEST", ",", ";", 10**6), 2, r"separated by ';'; save it with commas"),
    ("an open quote", table("PADCHEST", 'sintetico"', "sintetico"), 2, r"\.csv, line \d+"),
]  # fmt: skip
CASES = [
    pytest.param(name, *case[1:], id=f"{name}: {case[0]}")
    for name, cases in (("chexpert", CHEXPERT), ("mimic", MIMIC), ("padchest", PADCHEST))
    for case in cases
]
assert min(map(len, (CHEXPERT, MIMIC, PADCHEST))) >= 10


@pytest.mark.parametrize(("name", "damage", "code", "message"), CASES)
def test_a_damaged_release_is_a_one_line_error(
    name: str, damage: Damage, code: int, message: str, release: Get, capsys: pytest.CaptureFixture[str]
) -> None:
    on_disk = release(name)
    damage(on_disk)
    assert on_disk.build(images=on_disk.root if damage is copied else None) == code
    said = capsys.readouterr().err.splitlines()
    errors = [line for line in said if not line.startswith("building")]
    assert len(errors) == 1 and errors[0].startswith("error: "), said
    assert re.search(message, errors[0]), errors[0]
    assert "Doe" not in errors[0] and not (on_disk.root / "out").exists()


def test_one_folder_of_images_is_not_the_release(release: Get, capsys: pytest.CaptureFixture[str]) -> None:
    on_disk = release("chexpert")
    assert on_disk.build(images=on_disk.tables / "valid") == 2
    said = capsys.readouterr().err
    assert re.search(
        r"none of the \d+ images of .*train\.csv is in .*/valid, first .*; name the folder .* --images", said
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "chexbert"], "--set 'chexbert' is none of nih, "),
        (["--set", "chexpert"], "name the folder with the images with --images"),
        (["--set", "chexpert", "--images", "none"], "--images none does not exist"),
        (["--set", "chexpert", "--images", ".", "--metadata", "none"], "there is no file none"),
        (["--set", "chexpert", "--images", ".", "--labels", "x.csv"], "go to --metadata"),
        (["--set", "csv", "--images", "."], "your own labels need --labels CSV and --map MAP"),
        (
            ["--set", "padchest", "--images", ".", "--metadata", "x.csv", "--map", "padchest"],
            "--map is for --set csv",
        ),
    ],
)
def test_options(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("build", "--out", "out", *words) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and message in said[0]


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("padchest", "official", r"--split official is of releases with a split; choose --split patient"),
        (
            "padchest",
            "TABLE",
            r"the patients of --set padchest are numbered by the build, so a table cannot",
        ),
        ("mimic", "official", r"--split official needs mimic-cxr-2\.0\.0-split\.csv next to the labels"),
        ("chexpert", "official", r"--split official needs valid\.csv or test\.csv next to train\.csv"),
        ("chexpert", "nothing", r"--split 'nothing' is neither 'official' nor 'patient' nor a file"),
    ],
)
def test_a_split_that_a_release_lacks(
    name: str, split: str, message: str, release: Get, capsys: pytest.CaptureFixture[str]
) -> None:
    on_disk = release(name)
    for lacking in {"mimic": ("split",), "chexpert": ("valid.csv", "test.csv")}.get(name, ()):
        on_disk.table(lacking).unlink()
    assert on_disk.build("--split", str(on_disk.table("")) if split == "TABLE" else split) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_table_divides_patients_that_have_numbers(release: Get, tmp_path: Path) -> None:
    on_disk = release("mimic")
    patients = sorted({line.split(",")[2] for line in on_disk.lines("split")[1:]})
    lines = [f"{patient},{'test' if i == 0 else 'train'}" for i, patient in enumerate(patients)]
    (tmp_path / "mine.csv").write_text("\n".join(["patient_id,split", *lines]))
    assert on_disk.build("--split", str(tmp_path / "mine.csv")) == 0
    assert on_disk.splits()["test"] == {int(patients[0])}


NIH: list[tuple[str, Callable[[Release], object], int, str]] = [
    ("a column lacks", lambda nih: edit(nih.metadata, "Patient ID", "ID"), 2, r"has no column 'Patient ID'"),
    ("an image is cut", lambda nih: nih.put(nih.names[0], nih.files[nih.names[0]][:99]), 1, r"1 of 40 images are"),
    ("a name that no file has", lambda nih: edit(nih.metadata, nih.names[0], "../x.png"), 1,
     r"00000001_000\.png: unlabelled: not in the metadata"),
    ("a label of no set", lambda nih: edit(nih.metadata, "Hernia", "2"), 1, r"unknown finding '2'"),
    ("a row twice", lambda nih: edit(nih.metadata, nih.names[1], nih.names[0]), 2, r"00000001_000\.png is listed"),
    ("a patient's name", lambda nih: edit(nih.metadata, ",0,1,", ",0,one,"), 2, r"'one' is not a whole number"),
    ("a patient in two splits", lambda nih: nih.write_lists(nih.names[:11], nih.names[11:]), 2,
     r"patient 6 is in train_val_list\.txt and in test_list\.txt"),
    ("a list of other files", lambda nih: nih.write_lists(["a.png"], nih.names), 2, r"train_val_list\.txt: file"),
    ("a cut gz", lambda nih: cut_metadata(nih), 2, r"Data_Entry_2017\.csv cannot be read: "),
    ("no images", lambda nih: shutil.rmtree(nih.root), 2, r"does not exist"),
    ("no table", lambda nih: nih.metadata.unlink(), 2, r"there is no file "),
    ("a cut archive", lambda nih: cut_archive(nih), 1, r"all\.tar\.gz is damaged .*; fetch it again"),
]  # fmt: skip


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def cut_metadata(nih: Release) -> None:
    nih.metadata.write_bytes(gzip.compress(nih.metadata.read_bytes())[:60])


def cut_archive(nih: Release) -> None:
    archive = nih.as_archive(nih.root / "all.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-3000])


@pytest.mark.parametrize(("damage", "code", "message"), [pytest.param(*case[1:], id=case[0]) for case in NIH])
def test_a_damaged_nih_release_is_a_one_line_error(
    damage: Callable[[Release], object], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nih = Release(tmp_path / "nih")
    damage(nih)
    assert (
        run("build", "--images", nih.root, "--metadata", nih.metadata, "--out", tmp_path / "out", "--size", 32)
        == code
    )
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("building")]
    assert len(said) == 1 and said[0].startswith("error: ") and re.search(message, said[0]), said
    assert not (tmp_path / "out").exists()


def test_an_archive_of_padchest_with_paths_that_leave_it(release: Get) -> None:
    """Members are matched by their names and never written, wherever their paths point."""
    on_disk = release("padchest")
    archive = on_disk.image("3.zip")
    with zipfile.ZipFile(archive) as opened:
        members = {f"../../{name}": opened.read(name) for name in opened.namelist()}
    with zipfile.ZipFile(archive, "w") as rewritten:
        for name, data in members.items():
            rewritten.writestr(name, data)
    before = sorted(on_disk.root.parent.iterdir())
    assert on_disk.build() == 0
    assert sorted(on_disk.root.parent.iterdir()) == before
