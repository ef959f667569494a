"""Predictions of several runs of the same images from their artifacts: without images, weights or torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np

from chexvision.artifact.contents import PROBABILITIES, RUN, RunInfo, read_run
from chexvision.artifact.probabilities import Probabilities
from chexvision.artifact.recorded_split import split_for
from chexvision.data.division import Division, divide_data
from chexvision.data.rows import Rows
from chexvision.data.source import find_shards
from chexvision.errors import UsageError
from chexvision.hub.reference import Reference, RepoRef, parse_reference
from chexvision.hub.repo_files import model_file
from chexvision.inference.labeled import labeled
from chexvision.metrics.predictions import Predictions, images_sha256


class NotStored(UsageError):
    """The artifacts do not hold predictions of the same images; the images have to be predicted."""


@dataclass(frozen=True, slots=True)
class StoredPredictions:
    """What runs recorded of their predictions, with the labels of the data set.

    Args:
        names: of the runs.
        runs: their records.
        data: the data set.
        division: of its images, by the runs' split.
        predictions: of each run by split: "validation" and, where there is one, "test"; raw, of the same images in
            the same order. Where recipes sample validation, those images that are in all samples.
    """

    names: tuple[str, ...]
    runs: tuple[RunInfo, ...]
    data: Reference
    division: Division
    predictions: tuple[dict[str, Predictions], ...]


def stored_predictions(
    names: Sequence[str],
    references: Sequence[Reference],
    data: Reference | None = None,
    split_rule: str | None = None,
) -> StoredPredictions:
    """Read the predictions of runs of the same data and split.

    Args:
        names: what to call each run.
        references: where each was published, in the same order; repositories pinned to a commit.
        data: where the data set is; by default where the runs had it.
        split_rule: how they divided it, as `SplitChoice.parse` takes it; by default as they recorded it.

    Raises:
        NotStored: a run lacks the record, or they are of different findings, data, or images.
        UsageError: the data set is not on this machine.
        ChexError: a file cannot be fetched, is damaged, or the data set cannot be read.
    """
    runs = [_run(*of) for of in zip(names, references, strict=True)]
    stored = [_probabilities(*of) for of in zip(names, references, strict=True)]
    for name, one in zip(names, stored, strict=True):
        if one.label_space != stored[0].label_space:
            raise NotStored(f"{names[0]} and {name} predict different findings")
        if one.dataset_identity != stored[0].dataset_identity:
            raise NotStored(f"{names[0]} and {name} were measured on different data; name the shards with --data")
    where = _data(names[0], runs[0], stored[0], data)
    division = divide_data(where, split_for(names, references, split_rule))
    sampled = [division.sampled(run.recipe.data, run.recipe.training.seed) for run in runs]
    splits = [split for split in ("validation", "test") if len(sampled[0].get(split, ()))]
    predictions: list[dict[str, Predictions]] = [{} for _ in names]
    for split in splits:
        rows = [of[split] for of in sampled]
        shared = reduce(np.intersect1d, [of.filenames for of in rows])
        if not len(shared):
            raise NotStored(f"the runs share no {split} image; name the shards with --data")
        for name, of, one, found in zip(names, rows, stored, predictions, strict=True):
            found[split] = labeled_as_stored(name, split, of, one).take(np.isin(of.filenames, shared))
    return StoredPredictions(tuple(names), tuple(runs), where, division, tuple(predictions))


def _run(name: str, reference: Reference) -> RunInfo:
    path = model_file(reference, RUN)
    if path is None:
        raise NotStored(f"{name} has no {RUN} that names its data; name the shards with --data")
    return read_run(path)


def _probabilities(name: str, reference: Reference) -> Probabilities:
    path = model_file(reference, PROBABILITIES)
    if path is None:
        raise NotStored(
            f"{name} was published by an earlier version, without {PROBABILITIES}; name the shards to predict with "
            "--data"
        )
    return Probabilities.read(path)


def _data(name: str, run: RunInfo, stored: Probabilities, asked: Reference | None) -> Reference:
    """The data set that was predicted: where it is asked for, or else where the run had it."""
    if asked is None and run.datasets:
        known = ", ".join(of.dataset for of in run.datasets)
        raise UsageError(f"{name} was trained on a mixture; name one of its data sets with --data: {known}")
    where = parse_reference(run.dataset) if asked is None else asked
    if isinstance(where, RepoRef):
        if str(where) != run.dataset:
            raise NotStored(f"{name} was measured on {run.dataset}, not on {where}")
    elif not where.is_dir():
        raise UsageError(f"{name} was measured on {Path(where).name}, a folder that is not here; name it with --data")
    elif find_shards(where).identity != stored.dataset_identity:
        raise NotStored(f"{name} was measured on other shards than those in {where}")
    return where


def labeled_as_stored(name: str, split: str, rows: Rows, stored: Probabilities) -> Predictions:
    """What a run recorded for a split, with the labels of the split's rows.

    Raises:
        NotStored: it is of other images or findings.
    """
    found = stored.by_split.get(split)
    if found is None or len(found) != len(rows) or stored.images_sha256[split] != images_sha256(rows.filenames):
        raise NotStored(
            f"{name} has no probabilities of these {len(rows):,} {split} images; name the shards with --data"
        )
    if stored.label_space != rows.label_space:
        raise NotStored(
            f"{name} predicts {', '.join(stored.label_space.findings)}, but the labels of its data are "
            f"{', '.join(rows.label_space.findings)}"
        )
    of_rows = np.empty_like(found)
    of_rows[np.argsort(rows.filenames, kind="stable")] = found
    return labeled(rows, of_rows)
