"""Which row of which shard belongs to which split of a run: labels and patients, without pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from chexvision.errors import ChexError, UsageError
from chexvision.labels import FINDINGS, multi_hot
from chexvision.shards.schema import patient_of
from chexvision.shards.split import read_split_table


@dataclass(frozen=True, slots=True)
class Rows:
    """The images of one split, in shard order.

    Args:
        filenames: str[N].
        findings: float32[N, 14], 1 where a finding is named.
        patients: int64[N].
        shard: int32[N], an index into the source's shards, all splits one after another.
        row: int64[N], the row within that shard.
    """

    filenames: NDArray[np.str_]
    findings: NDArray[np.float32]
    patients: NDArray[np.int64]
    shard: NDArray[np.int32]
    row: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.filenames)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Rows:
        """The rows at `index`, in its order."""
        return Rows(
            self.filenames[index],
            self.findings[index],
            self.patients[index],
            self.shard[index],
            self.row[index],
        )


def read_rows(shards: dict[str, list[Path]], split_table: str | None) -> dict[str, Rows]:
    """Read every row's labels and patient, and sort the rows into splits.

    Args:
        shards: the Parquet files of each split.
        split_table: a ``patient_id,split`` table that overrides the split the shards lie in.

    Raises:
        ChexError: a shard lacks a column, holds a label that is no finding, or two splits share a patient.
        UsageError: the table does not name a patient of the shards.
    """
    parts: list[Rows] = []
    names: list[str] = []
    numbered = [(split, path) for split, paths in shards.items() for path in paths]
    for number, (split, path) in enumerate(numbered):
        part = _read_shard(path, number)
        parts.append(part)
        names.extend([split] * len(part))
    everything = Rows(
        np.concatenate([part.filenames for part in parts]),
        np.concatenate([part.findings for part in parts]),
        np.concatenate([part.patients for part in parts]),
        np.concatenate([part.shard for part in parts]),
        np.concatenate([part.row for part in parts]),
    )
    split_of = np.array(names)
    if split_table is not None:
        split_of = _split_by_table(everything.patients, split_table)
    by_split = {split: everything.take(split_of == split) for split in ("train", "validation", "test")}
    _check_disjoint(by_split)
    return by_split


def sample_patients(rows: Rows, at_most: int | None, seed: int) -> Rows:
    """A seeded sample of whole patients with at most `at_most` images, or all rows for None."""
    if at_most is None or len(rows) <= at_most:
        return rows
    patients, counts = np.unique(rows.patients, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(patients))
    fits = np.cumsum(counts[order]) <= at_most
    kept = patients[order[fits]] if fits.any() else patients[order[:1]]
    return rows.take(np.isin(rows.patients, kept))


def _read_shard(path: Path, number: int) -> Rows:
    # Not through read_table, which takes longer to import what it never needs here than to read a shard.
    with pq.ParquetFile(path) as shard:
        columns = set(shard.schema_arrow.names)
        missing = {"image", "filename", "labels"} - columns
        if missing:
            raise ChexError(f"{path} has no column {sorted(missing)[0]!r}; shards need image, filename and labels")
        table = shard.read(columns=["filename", "labels"] + (["patient_id"] if "patient_id" in columns else []))
    filenames: list[str] = table.column("filename").to_pylist()
    labels = table.column("labels").dictionary_encode().combine_chunks()
    try:
        codes = np.array([multi_hot(text) for text in labels.dictionary.to_pylist()], np.float32)
    except ValueError as error:
        raise ChexError(f"{path}: {error}") from None
    if "patient_id" in columns:
        column = table.column("patient_id").combine_chunks()
        if column.null_count:
            raise ChexError(f"{path} has images without a patient_id; nobody can tell whether splits share a patient")
        # Arrow's own to_numpy would import pandas, which takes longer than reading the shard.
        patients = np.from_dlpack(column).astype(np.int64)
    else:
        patients = np.array([patient_of(name) for name in filenames], np.int64)
    rows = len(filenames)
    return Rows(
        np.array(filenames, dtype=np.str_),
        codes.reshape(-1, len(FINDINGS))[np.from_dlpack(labels.indices)],
        patients,
        np.full(rows, number, np.int32),
        np.arange(rows, dtype=np.int64),
    )


def _split_by_table(patients: NDArray[np.int64], table: str) -> NDArray[np.str_]:
    split_of_patient = read_split_table(Path(table))
    unknown = sorted(set(patients.tolist()) - split_of_patient.keys())
    if unknown:
        raise UsageError(
            f"split table {table} does not name patient {unknown[0]} ({len(unknown)} in all are missing)"
        )
    return np.array([split_of_patient[patient] for patient in patients.tolist()])


def _check_disjoint(by_split: dict[str, Rows]) -> None:
    seen: dict[int, str] = {}
    for split, rows in by_split.items():
        for patient in np.unique(rows.patients).tolist():
            if patient in seen:
                raise ChexError(
                    f"patient {patient} is in both {seen[patient]} and {split}: what is learned from one would be "
                    "measured on the other; build the shards with a split by patient or pass data.split_table"
                )
            seen[patient] = split
