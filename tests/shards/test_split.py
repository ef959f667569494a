from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chexvision.errors import UsageError
from chexvision.nih.lists import read_official_lists
from chexvision.shards.build import build_shards
from chexvision.shards.schema import SPLITS
from chexvision.shards.split import read_split_table, split_by_patient
from tests.shards.conftest import Release, options

PATIENTS = st.sets(st.integers(1, 99_999_999), min_size=3, max_size=300)


@given(PATIENTS, st.integers(0, 2**31))
def test_every_patient_gets_one_split_and_none_is_empty(patients: set[int], seed: int) -> None:
    table = split_by_patient(patients, seed)
    assert set(table) == patients
    assert set(table.values()) == set(SPLITS)


@given(PATIENTS, st.integers(0, 99), st.randoms())
def test_the_split_does_not_depend_on_patient_order(patients: set[int], seed: int, rng: random.Random) -> None:
    shuffled = sorted(patients)
    rng.shuffle(shuffled)
    assert split_by_patient(shuffled, seed) == split_by_patient(patients, seed)


@given(PATIENTS, PATIENTS, st.integers(0, 99))
def test_new_patients_move_only_patients_at_a_split_boundary(old: set[int], new: set[int], seed: int) -> None:
    before, after = split_by_patient(old, seed), split_by_patient(old | new, seed)
    order = {"validation": 0, "test": 1, "train": 2}
    # The ranking of patients is stable: they keep their relative order.
    for first in list(old)[:20]:
        for second in list(old)[:20]:
            if order[before[first]] < order[before[second]]:
                assert order[after[first]] <= order[after[second]]


def test_shares_are_70_10_20() -> None:
    table = split_by_patient(range(1, 1001), 7)
    assert [sum(name == split for name in table.values()) for split in SPLITS] == [700, 100, 200]
    assert table != split_by_patient(range(1, 1001), 8)


def test_official_lists_are_the_default_and_validation_is_part_of_train_val(release: Release, tmp_path: Path) -> None:
    test = [name for name in release.names if name > "00000016"]
    release.write_lists([name for name in release.names if name not in test], test)
    manifest = build_shards([release.root / "images_001", release.root / "images_002"], release.metadata,
                            tmp_path / "out", options())  # fmt: skip
    assert manifest.split.name == "official"
    assert {name: counts.patients for name, counts in manifest.splits.items()} == {
        "train": 14, "validation": 1, "test": 5,
    }  # fmt: skip


def test_a_patient_in_both_official_lists_is_refused(release: Release) -> None:
    release.write_lists(release.names[:11], release.names[11:])
    with pytest.raises(UsageError, match=r"patient 6 is in train_val_list.*and in test_list"):
        read_official_lists(release.root / "train_val_list.txt", release.root / "test_list.txt")


def test_official_without_lists_names_the_missing_files(release: Release, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"train_val_list\.txt"):
        build_shards([release.root], release.metadata, tmp_path / "out", options(split="official"))


def test_a_table_assigns_the_splits(release: Release, tmp_path: Path) -> None:
    table = tmp_path / "mine.csv.gz"
    rows = ["patient_id,split"] + [f"{p},{'train' if p < 15 else 'val' if p < 18 else 'test'}" for p in range(1, 20)]
    table.write_bytes(gzip.compress("\n".join(rows).encode()))
    manifest = build_shards(
        [release.root], release.metadata, tmp_path / "out", options(split=str(table), max_bad=0.06)
    )
    assert {name: counts.patients for name, counts in manifest.splits.items()} == {
        "train": 14, "validation": 3, "test": 2,
    }  # fmt: skip
    assert {bad.reason for bad in manifest.bad} == {"patient 20 is in no split"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patient_id,split\n1,train\n1,test\n", "line 3: patient 1 is in two splits"),
        ("patient_id,split\n1,holdout\n", "unknown split 'holdout'"),
        ("patient_id,split\nx,train\n", "'x' is not a patient number"),
        ("patient,split\n1,train\n", "no column 'patient_id'"),
        ("patient_id,split\n", "names no patient"),
        ("", "no column 'patient_id'"),
    ],
)
def test_an_invalid_table_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_split_table(tmp_path / "t.csv")


def test_the_public_table_is_read(shared: Path) -> None:
    table = read_split_table(shared / "chexnet_patient_split.csv.gz")
    assert [sum(name == split for name in table.values()) for split in SPLITS] == [21_528, 3_090, 6_187]


def test_a_truncated_gzip_table_is_refused(shared: Path, tmp_path: Path) -> None:
    truncated = tmp_path / "truncated.csv.gz"
    truncated.write_bytes((shared / "chexnet_patient_split.csv.gz").read_bytes()[:5000])
    with pytest.raises(UsageError, match="cannot be read"):
        read_split_table(truncated)
