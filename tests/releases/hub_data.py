"""Small datasets on a fake Hub."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from huggingface_hub import CommitOperationAdd, HfApi

from chexvision.images.radiograph import Grey
from chexvision.releases.from_hub.hub_dataset import read_hub
from chexvision.releases.release import Reading, Release

TARGETS = {"Mass": {"any_of": ["mass"]}, "Effusion": {"any_of": ["effusion"]}}
LIST = {"form": "list", "labels": "labels", "normal": "none", "targets": TARGETS}
PERSON = LIST | {"patient": ["person"]}
SETS = ((), ("mass",), ("mass", "effusion"), ("effusion",))  # of the images 0, 1, 2, 3, 0, …
NAMES = ("none", "mass", "effusion")

IMAGE = ({"_type": "Image"}, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
STRING = ({"dtype": "string", "_type": "Value"}, pa.string())
STRINGS = ({"feature": STRING[0], "_type": "List"}, pa.list_(pa.string()))
INT = ({"dtype": "int64", "_type": "Value"}, pa.int64())
BOOL = ({"dtype": "bool", "_type": "Value"}, pa.bool_())
BINARY = ({"dtype": "binary", "_type": "Value"}, pa.binary())
FLOAT = ({"dtype": "float64", "_type": "Value"}, pa.float64())
Kind = tuple[dict[str, Any], pa.DataType]
Row = dict[str, Any]


def classes(*names: str) -> Kind:
    """A column of one class."""
    return {"names": list(names), "_type": "ClassLabel"}, pa.int64()


def lists_of(kind: Kind) -> Kind:
    """A column of lists."""
    return {"feature": kind[0], "_type": "List"}, pa.list_(kind[1])


def parquet(columns: Mapping[str, Kind], rows: Sequence[Row], rows_per_group: int = 4) -> bytes:
    """A Parquet file as `datasets` writes it, with the features in the metadata of its schema."""
    about = json.dumps({"info": {"features": {name: kind[0] for name, kind in columns.items()}}})
    schema = pa.schema([(name, kind[1]) for name, kind in columns.items()], metadata={"huggingface": about})
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema), file, row_group_size=rows_per_group)
    return file.getvalue()


def pixels(number: int, side: int = 40) -> Grey:
    """An image that tells its number."""
    return np.random.default_rng(number).integers(0, 256, (side, side), np.uint8)


def png(number: int, side: int = 40) -> bytes:
    """`pixels` as a file."""
    return cv2.imencode(".png", pixels(number, side))[1].tobytes()


def image(number: int, side: int = 40) -> dict[str, Any]:
    """The value of a column of images."""
    return {"bytes": png(number, side), "path": f"{number}.png"}


def push(repo_id: str, files: Mapping[str, bytes], *, private: bool = False) -> str:
    """Create a dataset of files, or add them to it; returns the commit."""
    api = HfApi()
    api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
    operations = [CommitOperationAdd(path, data) for path, data in files.items()]
    commit = api.create_commit(repo_id, operations, commit_message="files", repo_type="dataset")
    return commit.oid


def label_map(folder: Path, **keys: Any) -> str:
    """A file with a label map."""
    path = folder / "map.yaml"
    path.write_text(yaml.safe_dump({"name": "test", "image": ["image"], **keys}, sort_keys=False))
    return str(path)


def read(repo_id: str, sha: str, label_map: str | None = None) -> Release:
    """The labels of a dataset at a commit, or at a commit and a configuration."""
    return read_hub(Reading(f"hub:{repo_id}@{sha}", label_map=label_map))


def values(release: Release) -> list[tuple[float, ...]]:
    """The labels of each image."""
    entries = [release.entries[found.name] for found in release.index.images]
    return [release.space.values(entry.labels, entry.uncertain, entry.unknown) for entry in entries]


def archive(files: Mapping[str, bytes]) -> bytes:
    """A .zip file."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return made.getvalue()
