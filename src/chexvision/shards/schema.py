"""What a shard is: its columns, its path and name, and how shards are found in a folder."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from chexvision.errors import UsageError
from chexvision.files.atomic import regular_size
from chexvision.nih.patients import SPLITS as SPLITS
from chexvision.nih.patients import patient_of as patient_of

IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
COLUMNS: tuple[tuple[str, pa.DataType], ...] = (
    ("image", IMAGE_TYPE),
    ("filename", pa.string()),
    ("labels", pa.string()),
    ("patient_id", pa.int64()),
    ("age", pa.int64()),
    ("sex", pa.string()),
    ("view", pa.string()),
    ("follow_up", pa.int64()),
    ("original_width", pa.int64()),
    ("original_height", pa.int64()),
)
# Next to `labels`, where not every label is known: see `chexvision.labels.LabelSpace.values`.
OPEN_COLUMNS = (("uncertain", pa.string()), ("unknown", pa.string()))
# Next to `patient_id`, where studies are known.
STUDY_COLUMN = ("study_id", pa.int64())
LABEL_COLUMNS = ("labels", "uncertain", "unknown")
NEEDED_COLUMNS = ("image", "filename", "labels")  # shards of other makers may have only these

_SHARD = re.compile(r"^(train|validation|test)-(\d{5})-of-(\d{5})\.parquet$")


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a shard and its metadata."""

    image: bytes  # an encoded gray image
    filename: str
    labels: str  # with the next-to-last two, see `chexvision.labels.LabelSpace.values`
    patient_id: int
    age: int | None  # years
    sex: str | None  # "M" or "F"
    view: str | None  # "PA", "AP" or "L" (lateral)
    follow_up: int | None
    original_width: int | None  # pixels of the detector, before the release's own reduction
    original_height: int | None
    uncertain: str | None = None
    unknown: str | None = None
    study_id: int | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns a set of shards has besides `COLUMNS`.

    Args:
        open_labels: those for uncertain and unknown labels.
        studies: `study_id`.
    """

    open_labels: bool = False
    studies: bool = False

    @classmethod
    def among(cls, names: Collection[str]) -> Columns:
        """Those of shards with columns of these names."""
        return cls(OPEN_COLUMNS[0][0] in names, STUDY_COLUMN[0] in names)

    def in_order(self) -> tuple[tuple[str, pa.DataType], ...]:
        """All columns, by name."""
        found = []
        for column in COLUMNS:
            found.append(column)
            if column[0] == "labels" and self.open_labels:
                found += OPEN_COLUMNS
            if column[0] == "patient_id" and self.studies:
                found.append(STUDY_COLUMN)
        return tuple(found)


USUAL_COLUMNS, ALL_COLUMNS = Columns(), Columns(open_labels=True, studies=True)


def features(columns: Columns = USUAL_COLUMNS) -> dict[str, dict[str, str]]:
    """The columns as the `datasets` library describes them; `image` is decoded on reading."""
    known: dict[str, dict[str, str]] = {"image": {"_type": "Image"}}
    for name, kind in columns.in_order()[1:]:
        known[name] = {"dtype": str(kind), "_type": "Value"}
    return known


def arrow_schema(columns: Columns = USUAL_COLUMNS) -> pa.Schema:
    """The Parquet schema, with the metadata by which `datasets` recognizes the image column."""
    huggingface = json.dumps({"info": {"features": features(columns)}}, separators=(",", ":"))
    return pa.schema(columns.in_order(), metadata={"huggingface": huggingface})


def to_batch(rows: list[Row], schema: pa.Schema) -> pa.RecordBatch:
    """Rows as one Arrow record batch in `schema`, an `arrow_schema`."""
    images = pa.array([{"bytes": row.image, "path": row.filename} for row in rows], IMAGE_TYPE)
    others = [pa.array([getattr(row, field.name) for row in rows], field.type) for field in list(schema)[1:]]
    return pa.record_batch([images, *others], schema=schema)


def shard_name(split: str, index: int, count: int) -> str:
    """The path of a shard inside its folder, such as ``data/train-00000-of-00003.parquet``."""
    return f"data/{split}-{index:05d}-of-{count:05d}.parquet"


def list_shards(folder: Path) -> dict[str, list[Path]]:
    """The shards of each split below `folder`, in order; splits without shards are left out.

    Args:
        folder: contains ``data/*.parquet``, or the Parquet files themselves.

    Raises:
        UsageError: the folder is missing, contains no shards, lacks some of a split's ``-of-N`` shards, mixes two
            generations of them, or one of them is not a regular file.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; name one with data/train-*.parquet shards")
    data = folder / "data" if (folder / "data").is_dir() else folder
    grouped = group_shards((path.name for path in data.glob("*.parquet")), str(data))
    shards = {split: [data / name for name in names] for split, names in grouped.items()}
    for path in (path for paths in shards.values() for path in paths):
        try:
            regular_size(path)
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    return shards


def group_shards(names: Iterable[str], where: str) -> dict[str, list[str]]:
    """Sort shards' names into splits, in order; other names, and splits without shards, are left out.

    Args:
        names: file names, or paths with slashes.
        where: what contains them, for messages.

    Raises:
        UsageError: there are no shards, some of a split's ``-of-N`` are missing, or two generations are mixed.
    """
    found: dict[str, list[tuple[int, int, str]]] = {}
    for name in sorted(names):
        if match := _SHARD.match(name.rpartition("/")[2]):
            found.setdefault(match[1], []).append((int(match[2]), int(match[3]), name))
    if not found:
        raise UsageError(f"no shards such as {shard_name('train', 0, 1)} in {where}")
    for split, shards in found.items():
        counts = sorted({count for _, count, _ in shards})
        if len(counts) > 1:
            raise UsageError(f"{where} mixes {split} shards of two sets: -of-{counts[0]:05d} and -of-{counts[1]:05d}")
        missing = sorted(set(range(counts[0])) - {index for index, _, _ in shards})
        if missing:
            name = Path(shard_name(split, missing[0], counts[0])).name
            raise UsageError(f"{where} lacks {len(missing)} of {counts[0]} {split} shards; the first is {name}")
    return {split: [name for _, _, name in found[split]] for split in SPLITS if split in found}
