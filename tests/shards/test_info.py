"""Counts of `shards info` if the shards have different columns."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from chexvision.shards.columns import folder_place
from chexvision.shards.info import describe
from tests.shards.conftest import png


def test_patients_come_from_the_file_name_in_shards_without_the_column(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()

    def write(name: str, patients: list[int], column: bool) -> None:
        files = [f"{patient:08d}_000.png" for patient in patients]
        columns = {"image": [png(8)] * len(files), "filename": files, "labels": ["Mass"] * len(files)}
        if column:
            columns["patient_id"] = patients
        pq.write_table(pa.table(columns), tmp_path / "data" / name)

    write("train-00000-of-00002.parquet", [1, 2], column=True)
    write("train-00001-of-00002.parquet", [10, 11, 12], column=False)
    write("test-00000-of-00001.parquet", [10, 11, 20], column=True)
    info = describe(folder_place(tmp_path))
    assert info.splits["train"].patients == 5
    (shared,) = info.shared
    assert (shared.patients, shared.images) == (2, 2)
