"""Shards in a notebook, as a `datasets.DatasetDict`."""

from __future__ import annotations

import glob
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from chexvision.errors import ChexError, UsageError
from chexvision.hub.reference import RepoRef, pinned_reference
from chexvision.labels import UNCERTAIN, LabelSpace
from chexvision.releases.from_hub.hub_stream import HubSource, open_streams
from chexvision.shards.columns import label_texts, read_columns
from chexvision.shards.download import download_shards
from chexvision.shards.manifest import label_space_of, read_manifest
from chexvision.shards.remote import fetch_manifest
from chexvision.shards.schema import ALL_COLUMNS, IMAGE_TYPE, LABEL_COLUMNS, list_shards

if TYPE_CHECKING:
    from datasets import DatasetDict, IterableDataset, IterableDatasetDict

_OTHERS = tuple(name for name, _ in ALL_COLUMNS.in_order() if name not in ("image", *LABEL_COLUMNS))


def load_shards(reference: str | Path | RepoRef, *, streaming: bool = False) -> DatasetDict | IterableDatasetDict:
    """Open shards with the `datasets` library.

    A row has ``image``, a gray PIL image of the shards' size, decoded when it is looked at; ``labels``, ``uncertain``
    and ``unknown``, lists of classes whose names are the findings: those that are present, those that may be, and
    those that nobody labeled (all three are empty for a normal image); and the shards' other columns, such as
    ``filename`` and ``patient_id``. Nothing is copied: rows refer to their images in the Parquet files, which are
    memory-mapped, and copies of them do too (`save_to_disk`, `to_parquet`); `push_to_hub` sends the images.

    Args:
        reference: a shard folder, or ``USER/NAME@SHA`` on the Hub, which is downloaded once.
        streaming: do not download; rows come in order, as they are read, in an `IterableDatasetDict`.

    Returns:
        The splits "train", "validation" and "test", as far as there are any.

    Raises:
        UsageError: there are no such shards, the dataset's commit is not named, or `datasets` is not installed.
        ChexError: a shard is damaged, or the Hub does not answer.

    Examples:
        >>> shards = load_shards("shards")  # doctest: +SKIP
        >>> shards["train"][0]["image"].size  # doctest: +SKIP
        (320, 320)
        >>> names = shards["train"].features["labels"].feature.names  # doctest: +SKIP
        >>> [names[i] for i in shards["train"][0]["labels"]]  # doctest: +SKIP
        ['Effusion', 'Mass']
    """
    try:
        import datasets  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(f"load_shards needs the package {error.name}: pip install 'chexvision[train]'") from None
    found = pinned_reference(str(reference), "load_shards:")
    if isinstance(found, RepoRef) and streaming:
        return _streamed_from_hub(found)
    folder = found if isinstance(found, Path) else download_shards(found)
    shards, space = list_shards(folder), label_space_of(read_manifest(folder))
    return _streamed(shards, space) if streaming else _mapped(shards, space)


def _mapped(shards: Mapping[str, Sequence[Path]], space: LabelSpace) -> DatasetDict:
    from datasets import Dataset, DatasetDict, DatasetInfo, Features, Image, Value

    splits = {}
    for split, paths in shards.items():
        table = pa.concat_tables([_table(path, space) for path in paths])
        others = {name: Value(str(table.schema.field(name).type)) for name in table.column_names if name in _OTHERS}
        features = Features({"image": Image(), **_label_features(space), **others})
        splits[split] = Dataset(table, DatasetInfo(features=features), split=split)
    return DatasetDict(splits)


def _table(shard: Path, space: LabelSpace) -> pa.Table:
    """A shard's rows, with references to its images in their place."""
    from chexvision.data.hf_datasets.shard_rows import row_url

    _, table = read_columns(shard, [*LABEL_COLUMNS, *_OTHERS], str(shard))
    rows = table.num_rows
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "image": pa.array([{"bytes": None, "path": row_url(shard, row)} for row in range(rows)], IMAGE_TYPE)
    }
    try:
        lists = [_classes(space, *texts) for texts in label_texts(table)]
    except ValueError as error:
        raise ChexError(f"{shard}: {error}") from None
    for name in LABEL_COLUMNS:
        columns[name] = pa.array([row[name] for row in lists], pa.list_(pa.int64()))
    return pa.table(columns | {name: table.column(name) for name in _OTHERS if name in table.column_names})


def _classes(space: LabelSpace, labels: str, uncertain: str | None, unknown: str | None) -> dict[str, list[int]]:
    """The findings of each of `LABEL_COLUMNS`, by their places in the label set."""
    values = [*enumerate(space.values(labels, uncertain, unknown))]
    return {
        "labels": [place for place, value in values if value == 1],
        "uncertain": [place for place, value in values if value == UNCERTAIN],
        "unknown": [place for place, value in values if math.isnan(value)],
    }


def _label_features(space: LabelSpace) -> dict[str, Any]:
    from datasets import ClassLabel, List

    return {name: List(ClassLabel(names=list(space.findings))) for name in LABEL_COLUMNS}


def _streamed(shards: Mapping[str, Sequence[Path]], space: LabelSpace) -> IterableDatasetDict:
    from datasets import load_dataset

    files = {split: [glob.escape(str(path)) for path in paths] for split, paths in shards.items()}
    return _with_lists(load_dataset("parquet", data_files=files, streaming=True), space)


def _streamed_from_hub(reference: RepoRef) -> IterableDatasetDict:
    streams = open_streams(HubSource(reference.repo_id, reference.revision or ""), decode=True)
    return _with_lists(streams, label_space_of(fetch_manifest(reference)))


def _with_lists(streams: Mapping[str, IterableDataset], space: LabelSpace) -> IterableDatasetDict:
    """The streams with lists of classes in place of texts."""
    from datasets import Features, Image, IterableDatasetDict

    found = {}
    for split, stream in streams.items():
        known = stream.features or {}
        lacking = {"image", "filename", "labels"} - known.keys()
        if lacking:
            raise UsageError(f"these are no shards: {split} has no column {min(lacking)!r}")
        others = {name: known[name] for name in _OTHERS if name in known}
        features = Features({"image": Image(), **_label_features(space), **others})
        stream = stream.select_columns([name for name in features if name in known])
        found[split] = stream.map(partial(_listed, space=space), features=features)
    return IterableDatasetDict(found)


def _listed(row: dict[str, Any], space: LabelSpace) -> dict[str, Any]:
    texts = [row.get(name) for name in LABEL_COLUMNS]
    try:
        return dict(_classes(space, texts[0] or "", texts[1], texts[2]))
    except ValueError as error:
        raise ChexError(f"image {row['filename']}: {error}") from None
