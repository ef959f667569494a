"""The labels of several data sets as those of one; needs no pixels and no shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from chexvision.config.data_config import DataConfig
from chexvision.data.division import Division
from chexvision.data.rows import Rows, join
from chexvision.labels import union
from chexvision.shards.schema import SPLITS


def join_datasets(divisions: Mapping[str, Division], rows: Sequence[Rows]) -> Rows:
    """Rows of each data set, by its short name and in the same order, as those of a mixture.

    `Rows.shard` stays an index into the shards of the row's own data set.
    """
    space = union([of.label_space for of in rows])
    made, patients = list[Rows](), 0
    for (name, division), of in zip(divisions.items(), rows, strict=True):
        known = np.unique(np.concatenate([split.patients for split in division.rows.values()]))
        numbers = patients + np.searchsorted(known, of.patients).astype(np.int64)
        made.append(replace(of.within(space), filenames=distinct_names(name, of), patients=numbers))
        patients += len(known)
    return join(made)


def sampled_rows(config: DataConfig, divisions: Mapping[str, Division], seed: int) -> dict[str, Rows]:
    """The rows of each split, of one data set or of a mixture, as the recipe samples them; see `check_run_data`."""
    datasets = zip(divisions.values(), config.named, strict=True)
    sampled = [division.sampled(config.alone(one), seed) for division, one in datasets]
    if len(sampled) == 1:
        return sampled[0]
    return {split: join_datasets(divisions, [of[split] for of in sampled]) for split in SPLITS}


def distinct_names(dataset: str, rows: Rows) -> NDArray[np.str_]:
    """The file names, distinct from those of another data set."""
    return np.char.add(f"{dataset}/", rows.filenames)
