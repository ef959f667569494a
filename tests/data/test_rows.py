from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chexvision.data.rows import Rows, read_rows, sample_fraction, sample_patients
from chexvision.data.source import find_shards
from chexvision.errors import ChexError, UsageError
from chexvision.hub.reference import RepoRef
from chexvision.shards.split_rule import SplitChoice


def write_shard(folder: Path, split: str, names: list[str], labels: list[str]) -> None:
    """A shard as other tools publish it, with only image, filename and labels."""
    image = pa.array([{"bytes": b"", "path": name} for name in names])
    table = pa.table({"image": image, "filename": names, "labels": labels})
    (folder / "data").mkdir(exist_ok=True)
    pq.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")


def test_shards_with_three_columns_take_the_patient_from_the_file_name(tmp_path: Path) -> None:
    write_shard(tmp_path, "train", ["00000012_000.png", "00000012_001.png"], ["No Finding", "Mass|Effusion"])
    write_shard(tmp_path, "validation", ["00000013_000.png"], ["Hernia"])
    rows = read_rows(find_shards(tmp_path).shards, None)
    assert rows["train"].patients.tolist() == [12, 12]
    assert rows["train"].findings.sum(axis=1).tolist() == [0, 2]
    assert rows["validation"].findings[0, 13] == 1
    assert len(rows["test"]) == 0


def test_a_patient_in_two_splits_is_refused(tmp_path: Path) -> None:
    write_shard(tmp_path, "train", ["00000012_000.png"], ["No Finding"])
    write_shard(tmp_path, "test", ["00000012_001.png"], ["No Finding"])
    with pytest.raises(ChexError, match="patient 12 is in both train and test"):
        read_rows(find_shards(tmp_path).shards, None)


def test_a_table_replaces_the_split_of_the_shards(tmp_path: Path, synthetic_shards: Path) -> None:
    shards = find_shards(synthetic_shards).shards
    own = read_rows(shards, None)
    patients = np.unique(np.concatenate([rows.patients for rows in own.values()]))
    table = tmp_path / "table.csv"
    table.write_text("patient_id,split\n" + "".join(f"{p},{'train' if p % 2 else 'validation'}\n" for p in patients))
    rows = read_rows(shards, SplitChoice.parse(str(table)))
    assert (rows["train"].patients % 2 == 1).all() and (rows["validation"].patients % 2 == 0).all()
    assert sum(map(len, rows.values())) == sum(map(len, own.values()))
    table.write_text(f"patient_id,split\n{patients[0]},train\n")
    with pytest.raises(UsageError, match=r"does not name patient"):
        read_rows(shards, SplitChoice.parse(str(table)))


def test_an_unknown_label_names_the_shard(tmp_path: Path) -> None:
    write_shard(tmp_path, "train", ["00000012_000.png"], ["Broken Rib"])
    with pytest.raises(ChexError, match=r"train-00000-of-00001\.parquet: unknown finding 'Broken Rib'"):
        read_rows(find_shards(tmp_path).shards, None)


def rows_of(patients: list[int]) -> Rows:
    count = len(patients)
    return Rows(
        np.array([f"{i}.png" for i in range(count)]),
        np.zeros((count, 14), np.float32),
        np.array(patients, np.int64),
        np.zeros(count, np.int32),
        np.arange(count, dtype=np.int64),
    )


@given(st.lists(st.integers(1, 9), min_size=1, max_size=80), st.integers(1, 60), st.integers(0, 5))
def test_a_sample_takes_complete_patients_and_never_exceeds_its_size(
    patients: list[int], at_most: int, seed: int
) -> None:
    rows = rows_of(patients)
    sample = sample_patients(rows, at_most, seed)
    chosen = set(sample.patients.tolist())
    assert len(sample) == sum(patient in chosen for patient in patients)
    assert len(sample) <= at_most or len(chosen) == 1
    assert sample.row.tolist() == sample_patients(rows, at_most, seed).row.tolist()
    assert (np.diff(sample.row) > 0).all()


@given(st.lists(st.integers(1, 30), min_size=1, max_size=80), st.integers(0, 5))
def test_a_fraction_takes_complete_patients_and_contains_smaller_fractions(patients: list[int], seed: int) -> None:
    rows = rows_of(patients)
    everyone = set(patients)
    before: set[int] = set()
    for fraction in (0.01, 0.1, 0.5, 0.8, 1.0):
        sample = sample_fraction(rows, fraction, seed)
        chosen = set(sample.patients.tolist())
        assert len(chosen) == max(1, round(fraction * len(everyone)))
        assert before <= chosen
        assert sample.row.tolist() == [row for row, patient in enumerate(patients) if patient in chosen]
        before = chosen
    assert chosen == everyone


def test_an_unpinned_dataset_is_refused() -> None:
    for reference in (RepoRef("user/name"), RepoRef("user/name", "main"), RepoRef("user/name", "44443e6")):
        with pytest.raises(UsageError, match="is not pinned"):
            find_shards(reference)
