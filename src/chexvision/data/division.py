"""A data set divided into splits as a recipe requests, without pixels; also one that is still on the Hub."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from chexvision.config.data_config import SPLIT_RULES, DataConfig
from chexvision.data.node_share import Nodes
from chexvision.data.rows import (
    COLUMNS,
    Rows,
    divide,
    read_all,
    read_rows,
    record_split,
    sample_fraction,
    sample_patients,
)
from chexvision.data.source import ShardSource, check_named, find_shards
from chexvision.errors import UsageError
from chexvision.hub.reference import Reference
from chexvision.progress import Progress
from chexvision.shards.download import cached_shards
from chexvision.shards.remote import hub_place, list_files
from chexvision.shards.schema import group_shards
from chexvision.shards.split_rule import SplitChoice, SplitRecord


@dataclass(frozen=True, slots=True)
class Division:
    """How a data set is divided.

    Args:
        rows: of each split, all of them.
        record: the rule and its result.
    """

    rows: dict[str, Rows]
    record: SplitRecord

    def sampled(self, config: DataConfig, seed: int) -> dict[str, Rows]:
        """The rows of each split as the recipe samples them: `max_train_images` of what `train_fraction` leaves."""
        train = sample_fraction(self.rows["train"], config.train_fraction, seed)
        return {
            **self.rows,
            "train": sample_patients(train, config.max_train_images, seed),
            "validation": sample_patients(self.rows["validation"], config.max_validation_images, seed),
        }


@dataclass(frozen=True, slots=True)
class UsedImages:
    """The images that a machine uses of a run that divides its training images.

    Args:
        nodes: the machines.
        divisions: of each data set, by its short name.
        seed: of the run.
    """

    nodes: Nodes
    divisions: Mapping[str, Division]
    seed: int

    def shards(self, name: str, config: DataConfig) -> set[int]:
        """The shards of data set `name` that have some: of training this machine's, of the other splits all."""
        rows = self.divisions[name].sampled(config, self.seed)
        used = [self.nodes.held(of) if split == "train" else of for split, of in rows.items()]
        return {int(number) for of in used for number in np.unique(of.shard)}


def division_of(source: ShardSource, config: DataConfig) -> Division:
    """Divide the images of `source` as the recipe requests; without pixels.

    Raises:
        UsageError: the rule is for other images, or leaves no images to train on or to validate on.
        ChexError: a shard cannot be read, or two splits share a patient.
    """
    choice = SplitChoice.of(config).fitting(source.manifest)
    return _made(source.name, read_rows(source.shards, choice, source.label_space), choice)


def _made(name: str, rows: dict[str, Rows], choice: SplitChoice) -> Division:
    for split in ("train", "validation"):
        if not len(rows[split]):
            advice = "raise data.validation_share" if choice.rule == "official" and split == "validation" else ""
            advice = advice or f"set data.split to another of {', '.join(SPLIT_RULES)}, or a table"
            raise UsageError(f"{name}, divided by {choice}, has no {split} images; {advice}")
    return Division(rows, record_split(choice, rows))


def check_data(reference: Reference, config: DataConfig, needed: Collection[int] | None = None) -> Division:
    """As `divide_data`, by the split of a recipe."""
    return divide_data(reference, SplitChoice.of(config), needed)


def divide_data(reference: Reference, asked: SplitChoice, needed: Collection[int] | None = None) -> Division:
    """Divide a data set before anything is downloaded: of one on the Hub only the small columns are read.

    Args:
        reference: a folder, or a dataset.
        asked: how to divide it.
        needed: the numbers of the shards that are checked if all are on this machine; None: all. See `find_shards`.

    Raises:
        UsageError: a Hub dataset is not pinned, there are no shards, the split is for other images than these, or
            it leaves nothing to train on or to validate on.
        ChexError: the data cannot be read, contains a label that is not in the label set, or two splits share a
            patient.
    """
    check_named(reference)
    if isinstance(reference, Path) or cached_shards(reference):
        source = find_shards(reference, needed)
        choice = asked.fitting(source.manifest)
        return _made(source.name, read_rows(source.shards, choice, source.label_space), choice)
    place = hub_place(reference, list_files(reference))
    choice = asked.fitting(place.manifest)
    grouped = group_shards((path for path in place.sizes if path.startswith("data/")), place.name)
    shards = [(split, path) for split, paths in grouped.items() for path in paths]
    with Progress("reading labels", len(shards), "shards") as progress:

        def read(path: str) -> pa.Table:
            table = place.read(path, COLUMNS)[1]
            progress.advance(1)
            return table

        everything, own = read_all(shards, place.label_space, read, place.readers)
    return _made(place.name, divide(everything, own, choice), choice)
