"""Dividing images into train, validation and test by a rule, such that no patient is in two of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import sha256_of
from chexvision.metrics.predictions import images_sha256
from chexvision.nih.release import patient_of, release
from chexvision.shards.split import (
    VALIDATION_SHARE,
    official_split,
    read_split_table,
    shared_patients,
    split_by_patient,
)
from chexvision.shards.split_rule import SplitChoice, SplitPart, SplitRecord

if TYPE_CHECKING:
    from chexvision.data.rows import Rows

_PATIENT_SEED = 0  # not the training's: runs of several seeds share their validation patients


def assign(
    filenames: NDArray[np.str_], patients: NDArray[np.int64], own: NDArray[np.str_], choice: SplitChoice
) -> NDArray[np.str_]:
    """The split of each image: str[N].

    Args:
        filenames: str[N].
        patients: int64[N].
        own: str[N], the split that each image's shard is named for.
        choice: the rule.

    Raises:
        UsageError: the rule is for other images than these.
    """
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


def check_disjoint(by_split: Mapping[str, Rows], choice: SplitChoice) -> None:
    """Check that no patient is in two splits.

    Raises:
        ChexError: one is: training data would be measured.
    """
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
