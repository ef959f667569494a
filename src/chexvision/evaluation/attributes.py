"""What shards record apart from images and labels: sex, age, view, follow-up, and how images were divided."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chexvision import __version__
from chexvision.artifact.metrics_file import Conditions
from chexvision.data.dataset import Split
from chexvision.data.rows import Rows
from chexvision.data.source import ShardSource
from chexvision.metrics.subgroups import Groups, group_images
from chexvision.shards.split_rule import SplitRecord

_COLUMNS = ("sex", "age", "view", "follow_up")


def read_groups(source: ShardSource, rows: Rows) -> Groups:
    """The groups that each of `rows` belongs to; "" where unknown."""
    paths = [path for files in source.shards.values() for path in files]
    values: dict[str, NDArray[np.object_]] = {name: np.full(len(rows), None, object) for name in _COLUMNS}
    for number in np.unique(rows.shard).tolist():
        at = np.flatnonzero(rows.shard == number)
        table = source.columns(paths[number], _COLUMNS)
        for name in table.column_names:
            column = np.array(table.column(name).to_pylist(), object)
            values[name][at] = column[rows.row[at]]
    return group_images(*(values[name].tolist() for name in _COLUMNS))


def groups_of(split: Split) -> Groups:
    """The groups that each image of a split belongs to, of one data set or of several."""
    parts = [read_groups(part.source, part.rows) for part in split.parts]
    return {name: np.concatenate([of[name] for of in parts]) for name in parts[0]}


def conditions_of(
    source: ShardSource,
    split: str,
    division: SplitRecord,
    precision: str,
    *,
    image_size: int | None = None,
    epoch: int | None = None,
) -> Conditions:
    """Of measurements on a split of shards. Of the shards' own split, the manifest names the rule."""
    own = source.manifest.split.name if source.manifest else None
    return Conditions(
        version=__version__,
        dataset=source.name,
        dataset_identity=source.identity,
        synthetic=source.synthetic,
        split=split,
        split_rule=own if division.rule == "shards" else str(division),
        division=division,
        precision=precision,
        image_size=image_size,
        epoch=epoch,
    )
