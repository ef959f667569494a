"""Which row of which shard belongs to which split of a run: labels and patients, without pixels.

No patient is in two splits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import sha256_of
from chexvision.labels import NIH, OUTSIDE, LabelSpace
from chexvision.metrics.predictions import images_sha256
from chexvision.nih.patients import patient_of, release
from chexvision.parallel import map_in_order
from chexvision.shards.columns import ReadColumns, columns_of_file, label_texts, patients_of
from chexvision.shards.schema import LABEL_COLUMNS, SPLITS
from chexvision.shards.split import (
    VALIDATION_SHARE,
    official_split,
    read_split_table,
    shared_patients,
    split_by_patient,
)
from chexvision.shards.split_rule import SHARDS, SplitChoice, SplitPart, SplitRecord

COLUMNS = ("filename", *LABEL_COLUMNS, "patient_id")  # small ones: what a split and its labels are made from

_PATIENT_SEED = 0  # not the training's: runs of several seeds share their validation patients

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Rows:
    """The images of one split, in shard order.

    Args:
        filenames: str[N].
        findings: float32[N, K]: `LabelSpace.values` of each image, or `OUTSIDE`.
        patients: int64[N].
        shard: int32[N], an index into the source's shards, all splits one after another.
        row: int64[N], the row within that shard.
        label_space: names the K findings.
    """

    filenames: NDArray[np.str_]
    findings: NDArray[np.float32]
    patients: NDArray[np.int64]
    shard: NDArray[np.int32]
    row: NDArray[np.int64]
    label_space: LabelSpace = NIH

    def __len__(self) -> int:
        return len(self.filenames)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Rows:
        """The rows at `index`, in its order."""
        return replace(self, **{name: getattr(self, name)[index] for name in _ARRAYS})

    def within(self, space: LabelSpace) -> Rows:
        """The same rows in a label set that has all of their findings; its others are `OUTSIDE`."""
        findings = np.full((len(self), len(space.findings)), OUTSIDE, np.float32)
        findings[:, [space.findings.index(name) for name in self.label_space.findings]] = self.findings
        return replace(self, findings=findings, label_space=space)


def join(parts: Sequence[Rows]) -> Rows:
    """Rows of one label set, one part after another."""
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
    return replace(parts[0], **joined)


_ARRAYS = ("filenames", "findings", "patients", "shard", "row")


def read_rows(
    shards: Mapping[str, Sequence[Path]],
    choice: SplitChoice | None = None,
    label_space: LabelSpace = NIH,
    read: ReadColumns = columns_of_file,
) -> dict[str, Rows]:
    """Read every row's labels and patient, and divide the rows into splits.

    Args:
        shards: the Parquet files of each split.
        choice: how to divide; None for the split that each shard is named for.
        label_space: of the shards.
        read: reads columns of one.

    Raises:
        ChexError: a shard lacks a column, contains a label that is not in the label set, or two splits share a
            patient.
        UsageError: the rule is for other images than these.
    """
    return divide(*read_shards(shards, label_space, read), choice or SHARDS)


def read_shards(
    shards: Mapping[str, Sequence[Path]], label_space: LabelSpace = NIH, read: ReadColumns = columns_of_file
) -> tuple[Rows, NDArray[np.str_]]:
    """`read_all` of the shards of each split that they are named for."""
    named = [(split, path) for split, paths in shards.items() for path in paths]
    return read_all(named, label_space, lambda path: read(path, COLUMNS))


def read_all(
    shards: Sequence[tuple[str, P]],
    label_space: LabelSpace,
    read: Callable[[P], pa.Table],
    readers: int = 1,
) -> tuple[Rows, NDArray[np.str_]]:
    """Read every row's labels and patient, in the order of the shards.

    Args:
        shards: the split that each is named for, and its path.
        label_space: of the shards.
        read: returns those of `COLUMNS` that a shard has.
        readers: how many shards to read at once.

    Returns:
        The rows, and str[N], the split that each one's shard is named for.

    Raises:
        ChexError: a shard is not Parquet, lacks a column or contains a label that is not in the label set, or two
            images have the same file name.
    """

    def part(numbered: tuple[int, P]) -> Rows:
        number, place = numbered
        return _rows_of(str(place), number, read(place), label_space)

    parts = list(map_in_order(part, enumerate(place for _, place in shards), readers))
    everything = join(parts)
    _check_names(everything.filenames)
    return everything, np.repeat([split for split, _ in shards], [len(part) for part in parts])


def _check_names(filenames: NDArray[np.str_]) -> None:
    names, counts = np.unique(filenames, return_counts=True)
    if len(names) < len(filenames):
        repeated = names[counts > 1]
        raise ChexError(
            f"{len(repeated):,} file names are in the shards more than once, the first is {repeated[0]!s}: an image "
            "that is counted twice distorts the metrics; build the shards again"
        )


def divide(everything: Rows, own: NDArray[np.str_], choice: SplitChoice) -> dict[str, Rows]:
    """The rows of each split.

    Args:
        everything: N rows.
        own: str[N], the split that each one's shard is named for.
        choice: how to divide.

    Raises:
        ChexError: two splits share a patient.
        UsageError: the rule is for other images than these.
    """
    split_of = _assign(everything.filenames, everything.patients, own, choice)
    by_split = {split: everything.take(split_of == split) for split in SPLITS}
    _check_disjoint(by_split, choice)
    return by_split


def sample_patients(rows: Rows, at_most: int | None, seed: int) -> Rows:
    """A seeded sample of patients with all of their images, at most `at_most`; all rows for None."""
    if at_most is None or len(rows) <= at_most:
        return rows
    patients, counts = np.unique(rows.patients, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(patients))
    fits = np.cumsum(counts[order]) <= at_most
    kept = patients[order[fits]] if fits.any() else patients[order[:1]]
    return rows.take(np.isin(rows.patients, kept))


def sample_fraction(rows: Rows, fraction: float, seed: int) -> Rows:
    """A seeded sample of a fraction of the patients, at least one, with all of their images.

    The patients of a smaller fraction are among those of a larger one with the same seed.
    """
    if fraction >= 1:
        return rows
    patients = np.unique(rows.patients)
    order = np.random.default_rng(seed).permutation(len(patients))
    kept = patients[order[: max(1, round(fraction * len(patients)))]]
    return rows.take(np.isin(rows.patients, kept))


def _rows_of(name: str, number: int, table: pa.Table, label_space: LabelSpace) -> Rows:
    """The rows of shard `number`, called `name`."""
    known: dict[tuple[Any, ...], int] = {}  # the distinct combinations of labels, which are few
    combination = [known.setdefault(texts, len(known)) for texts in label_texts(table)]
    try:
        values = np.array([label_space.values(*texts) for texts in known], np.float32)
    except ValueError as error:
        raise ChexError(f"{name}: {error}") from None
    return Rows(
        np.array(table.column("filename").to_pylist(), dtype=np.str_),
        values[combination],
        patients_of(table, name),
        np.full(table.num_rows, number, np.int32),
        np.arange(table.num_rows, dtype=np.int64),
        label_space,
    )


def _assign(
    filenames: NDArray[np.str_], patients: NDArray[np.int64], own: NDArray[np.str_], choice: SplitChoice
) -> NDArray[np.str_]:
    """The split of each image, str[N]; `own` is the split that each image's shard is named for."""
    if choice.rule == "shards":
        return own
    if choice.rule == "patient":
        table = split_by_patient(patients.tolist(), _PATIENT_SEED)
    elif choice.table is not None:
        table = read_split_table(choice.table)
        _check_named(patients, table, choice.table)
    else:
        _check_release(filenames, choice.rule)
        # By file name, which is the release's own: a further column may number patients differently.
        patients = np.array([patient_of(name) for name in filenames.tolist()], np.int64)
        share = VALIDATION_SHARE if choice.validation_share is None else choice.validation_share
        table = official_split(share) if choice.rule == "official" else release().chexnet
    return np.array([table[patient] for patient in patients.tolist()], dtype=np.str_)


def record_split(choice: SplitChoice, by_split: Mapping[str, Rows]) -> SplitRecord:
    """The record of `choice` and its result; splits without images are left out."""
    return SplitRecord(
        rule=choice.rule,
        validation_share=choice.validation_share,
        table=choice.table.name if choice.table is not None else None,
        table_sha256=sha256_of(choice.table) if choice.table is not None else None,
        parts={
            name: SplitPart(
                images=len(rows),
                patients=len(np.unique(rows.patients)),
                images_sha256=images_sha256(rows.filenames),
            )
            for name, rows in by_split.items()
            if len(rows)
        },
    )


def _check_disjoint(by_split: Mapping[str, Rows], choice: SplitChoice) -> None:
    """Check that no patient is in two splits: training data would be measured."""
    for shared in shared_patients({name: rows.patients.tolist() for name, rows in by_split.items()}):
        if choice.rule == "shards":
            advice = "divide them by patient: data.split (or --split-rule) official, chexnet, patient or a table"
        else:
            advice = "the column patient_id contradicts the file names"
        raise ChexError(f"{shared}: a model would be measured on patients that it was trained on; {advice}")


def _check_named(patients: NDArray[np.int64], table: Mapping[int, str], path: Path) -> None:
    unknown = sorted(set(patients.tolist()) - table.keys())
    if unknown:
        raise UsageError(f"split table {path} does not name patient {unknown[0]} ({len(unknown)} in all are missing)")


def _check_release(filenames: NDArray[np.str_], rule: str) -> None:
    known = release()
    strange = [name for name in filenames.tolist() if not known.has_image(name)]
    if strange:
        raise UsageError(
            f"split {rule} is a list of NIH ChestX-ray14, and {strange[0]} ({len(strange):,} of {len(filenames):,} "
            "images) is not in that release; divide other images by data.split (or --split-rule) shards (as they "
            "are), patient or a patient_id,split table"
        )
