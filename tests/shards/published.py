"""Shards as the default dataset is published: RGB, three columns, no manifest, patients in train and in validation.

Its pipeline, src/data/resize_320_pipeline.py of github.com/arudaev/chexvision, defines it: `Image()`
features of ``{"bytes": RGB PNG, "path": None}``, labels "A|B" or "No Finding", a shard for each of the release's
archives, test_list.txt as test, and of all others the tenth as validation whose file name's SHA-256 says so.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from chexvision.nih.patients import patient_of, release
from chexvision.shards.split import official_split

_FEATURES = {
    "image": {"_type": "Image"},
    "labels": {"dtype": "string", "_type": "Value"},
    "filename": {"dtype": "string", "_type": "Value"},
}
_SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("labels", pa.string()),
        ("filename", pa.string()),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)
_LABELS = ("No Finding", "Effusion|Mass", "Hernia", "Atelectasis", "No Finding", "Infiltration|Nodule")


def split_as_published(filename: str) -> str:
    """The split that the dataset's maker puts an image into."""
    if patient_of(filename) in release().official_test:
        return "test"
    bucket = int.from_bytes(hashlib.sha256(filename.encode()).digest()[:8], "big") % 10
    return "train" if bucket < 9 else "validation"


def write_published(folder: Path, images: Mapping[str, tuple[bytes, str]], archives: int = 2) -> Path:
    """Write images, ``name: (RGB PNG, labels)``, as the dataset's maker does."""
    (folder / "data").mkdir(parents=True)
    for split in ("train", "validation", "test"):
        names = sorted(name for name in images if split_as_published(name) == split)
        for number in range(archives):
            part = names[number * len(names) // archives : (number + 1) * len(names) // archives]
            columns = {
                "image": [{"bytes": images[name][0], "path": None} for name in part],
                "labels": [images[name][1] for name in part],
                "filename": part,
            }
            path = folder / "data" / f"{split}-{number:05d}-of-{archives:05d}.parquet"
            pq.write_table(pa.table(columns, schema=_SCHEMA), path, row_group_size=100)
    return folder


def generated_images(
    train: int = 24, validation: int = 5, test: int = 5, side: int = 128
) -> dict[str, tuple[bytes, str]]:
    """Noise images under names of the release, of so many patients of each official split."""
    rng = np.random.default_rng(0)
    images: dict[str, tuple[bytes, str]] = {}
    split_of, left = official_split(), {"train": train, "validation": validation, "test": test}
    for patient, split in split_of.items():
        if left[split] and release().images[patient - 1] >= 3:
            left[split] -= 1
            for name in list(release().filenames([patient]))[:4]:
                grey = rng.integers(0, 255, (side, side, 1), dtype=np.uint8)
                png = cv2.imencode(".png", grey.repeat(3, axis=2))[1].tobytes()
                images[name] = (png, _LABELS[len(images) % len(_LABELS)])
    return images


def real_images(shared: Path) -> dict[str, tuple[bytes, str]]:
    """A thousand small radiographs of 264 patients with the release's labels."""
    with gzip.open(shared / "Data_Entry_2017_v2020.csv.gz", "rt", newline="") as file:
        labels = {row["Image Index"]: row["Finding Labels"] for row in csv.DictReader(file)}
    return {path.name: (path.read_bytes(), labels[path.name]) for path in sorted((shared / "nih64").glob("*.png"))}
