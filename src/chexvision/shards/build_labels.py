"""Which images shards are built from, with their labels and splits: a release, and how its patients are divided."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from chexvision.errors import UsageError
from chexvision.files.atomic import sha256_of
from chexvision.images.sources import Index
from chexvision.labels import LabelSpace
from chexvision.nih.metadata import Entry
from chexvision.releases.release import Reading, Release
from chexvision.releases.sets import read_release, set_of
from chexvision.shards.manifest import BadImage, Dataset, LeftOutCount, Source, SplitRule
from chexvision.shards.planned.make import Item
from chexvision.shards.split import VALIDATION_SHARE, read_split_table, split_by_patient, with_validation


@dataclass(frozen=True, slots=True)
class SetFacts:
    """What the manifest says of a set, whatever its images show.

    Args:
        source: of the labels.
        dataset: which one it is.
        space: the label set.
        rule: how patients were divided.
        left_out: images that are left out on purpose.
    """

    source: Source
    dataset: Dataset
    space: LabelSpace
    rule: SplitRule
    left_out: tuple[LeftOutCount, ...] = ()


@dataclass(frozen=True, slots=True)
class BuildLabels:
    """What is known of the images before they are read.

    Args:
        facts: of the set.
        index: the image files.
        entries: by the names of `index`.
        table: the split of each patient.
        missing: images that the tables name and that are not there.
    """

    facts: SetFacts
    index: Index
    entries: dict[str, Entry]
    table: dict[int, str]
    missing: tuple[BadImage, ...] = ()


def read_build_labels(reading: Reading, split: str | None, seed: int) -> BuildLabels:
    """Read the metadata and list the images.

    Args:
        reading: what to read.
        split: "official", "patient", the path of a ``patient_id,split`` table, or None: official where the release
            has a split of its own.
        seed: of the splits that are chosen here.

    Raises:
        UsageError: an input is missing or not valid.
        ChexError: an archive is damaged.
    """
    release = read_release(reading)
    rule, table = _divide(release, reading.dataset, split, seed)
    studies = any(entry.study_id is not None for entry in release.entries.values())
    kind: Literal["radiographs", "synthetic"] = "synthetic" if release.synthetic else "radiographs"
    terms = release.terms or set_of(reading.dataset).terms
    facts = SetFacts(
        source=Source(kind, release.source_name or release.tables[0].name, _hash(release.tables)),
        dataset=Dataset(reading.dataset, reading.views, terms, studies, release.knows_patients),
        space=release.space,
        rule=rule,
        left_out=tuple(LeftOutCount(reason, images) for reason, images in release.left_out),
    )
    missing = tuple(BadImage(name, reason) for name, reason in release.missing)
    return BuildLabels(facts, release.index, release.entries, table, missing)


def sort_out(known: BuildLabels) -> tuple[list[Item], list[BadImage]]:
    """The images with labels and a split, in reading order, and the others."""
    bad = [
        BadImage(_text(found.name), f"a second file of this name: {_text(found.member)}")
        for found in known.index.duplicates
    ]
    bad += known.missing
    usable: list[Item] = []
    values = cache(known.facts.space.values)  # of millions of images there are some hundred
    for found in known.index.images:
        entry = known.entries.get(found.name)
        if entry is None:
            bad.append(BadImage(_text(found.name), "unlabelled: not in the metadata"))
            continue
        try:
            labels = values(entry.labels, entry.uncertain, entry.unknown)
        except ValueError as error:
            bad.append(BadImage(found.name, str(error) if entry.labels else "unlabelled: its labels are empty"))
            continue
        if entry.patient_id not in known.table:
            bad.append(BadImage(found.name, f"patient {entry.patient_id} is in no split"))
        else:
            usable.append(Item(found, entry, known.table[entry.patient_id], labels))
    return usable, bad


def _text(name: str) -> str:
    """A file name as UTF-8; Python reads bytes that are not UTF-8 as surrogates."""
    return name.encode("utf-8", "backslashreplace").decode()


def _hash(tables: tuple[Path, ...]) -> str | None:
    return sha256_of(*tables) if tables else None


def _divide(release: Release, dataset: str, split: str | None, seed: int) -> tuple[SplitRule, dict[int, str]]:
    """The rule and the split of each patient."""
    split = split or ("official" if release.splits is not None else "patient")
    if split == "patient":
        if release.splits is not None and not release.knows_patients:
            raise UsageError(
                f"--split patient: --set {dataset} does not say which images are of one person, so only its own "
                "split may keep them apart; leave --split out"
            )
        entries = release.entries
        patients = (entries[found.name].patient_id for found in release.index.images if found.name in entries)
        return SplitRule("patient", seed), split_by_patient(patients, seed)
    if split == "official":
        if release.splits is None:
            raise UsageError(f"--split official {set_of(dataset).no_split}")
        table = release.splits
        if release.without_validation:
            table = with_validation(table, VALIDATION_SHARE, seed)
        return SplitRule(release.split_name, seed, _hash(release.split_tables)), table
    path = Path(split).expanduser()
    if not path.is_file():
        raise UsageError(f"--split {split!r} is neither 'official' nor 'patient' nor a file with patient_id,split")
    if release.numbered:
        raise UsageError(
            f"--split {split}: the patients of --set {dataset} are numbered by the build, so a table cannot name "
            f"them; use --split patient"
        )
    return SplitRule(path.name, seed, sha256_of(path)), read_split_table(path)
