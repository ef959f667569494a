from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chexvision.errors import UsageError
from chexvision.nih.metadata import Entry, find_metadata, read_metadata
from tests.shards.conftest import HEAD_2020

ROW = "00000001_000.png,Cardiomegaly|Emphysema,3,1,058Y,M,PA,2682,2749,0.143,0.143"


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("head", "row"),
    [
        (HEAD_2020, ROW),
        (HEAD_2020 + ",", ROW + ","),
        ("﻿" + HEAD_2020.replace("OriginalImage[Width,Height]", "OriginalImageWidth,OriginalImageHeight"), ROW),
        (HEAD_2020.replace("Gender", "Sex"), ROW.replace("058Y", "58")),
    ],
    ids=["2020", "2017 with its last comma", "copy with other heads and a BOM", "sex"],
)
def test_both_editions_give_the_same_entries(tmp_path: Path, head: str, row: str) -> None:
    assert read_metadata(write(tmp_path / "m.csv", head, row)) == {
        "00000001_000.png": Entry("Cardiomegaly|Emphysema", 1, 58, "M", "PA", 3, 2682, 2749)
    }


@pytest.mark.parametrize(
    ("text", "years"), [("058Y", 58), ("58", 58), ("018M", 1), ("005D", 0), ("414", None), ("", None), ("old", None)]
)
def test_ages_are_years(tmp_path: Path, text: str, years: int | None) -> None:
    entry = read_metadata(write(tmp_path / "m.csv", HEAD_2020, ROW.replace("058Y", text)))["00000001_000.png"]
    assert entry.age == years


def test_all_missing_columns_are_listed(tmp_path: Path) -> None:
    head = HEAD_2020.replace("Finding Labels", "Labels").replace("Patient ID", "Patient")
    with pytest.raises(UsageError, match="no column 'Finding Labels', 'Patient ID'"):
        read_metadata(write(tmp_path / "m.csv", head, ROW))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((ROW.replace(",1,058Y", ",one,058Y"),), "line 2: 'one' is not a whole number"),
        ((ROW, ROW), "line 3: 00000001_000.png is listed twice"),
        (("00000001_000.png,No Finding",), "line 2: 2 cells"),
        ((), "describes no image"),
    ],
)
def test_invalid_row_is_refused_with_its_line(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_metadata(write(tmp_path / "m.csv", HEAD_2020, *lines))


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_with_one_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("m") / "m.csv"
    path.write_bytes(data)
    with pytest.raises(UsageError):
        read_metadata(path)


def test_the_complete_release_is_read(real_data: Path) -> None:
    entries = read_metadata(real_data / "Data_Entry_2017_v2020.csv.gz")
    assert len(entries) == 112_120
    assert len({entry.patient_id for entry in entries.values()}) == 30_805
    assert entries["00000001_001.png"] == Entry("Cardiomegaly|Emphysema", 1, 58, "M", "PA", 1, 2894, 2729)


@pytest.mark.parametrize("folder", ["", "data", "datasets/organizations/nih-chest-xrays/data"])
def test_file_is_found_as_deep_as_kaggle_mounts_the_release(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder / "images_001" / "images").mkdir(parents=True)
    file = tmp_path / folder / "Data_Entry_2017.csv"
    file.touch()
    assert find_metadata([tmp_path]) == file


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], r"no Data_Entry_2017\*\.csv\*"),
        (["a/b/c/d/e/Data_Entry_2017.csv"], r"no Data_Entry_2017\*\.csv\*"),
        (["Data_Entry_2017.csv", "a/Data_Entry_2017_v2020.csv.gz"], r"2 files Data_Entry_2017\*\.csv\*"),
    ],
)
def test_missing_or_ambiguous_file_is_refused(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=f"{message} below .*; name the metadata file with --metadata"):
        find_metadata([tmp_path])
