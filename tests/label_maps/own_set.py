"""A folder of images with one's own table and label map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from chexvision.images.radiograph import decode_grey
from chexvision.shards.build import build_shards
from chexvision.shards.manifest import Manifest
from tests.images.dicoms import windowed
from tests.shards.conftest import options, png

TABLE = """file,patient,fold,years,sex,Effusion,Opacity
a/1.png,DOE-1,train,61,F,yes,no
a/2.png,DOE-1,train,61,F,no,no
b/1,DOE-2,train,47,male,maybe,yes
b/2.png,DOE-3,val,33,M,,no
b/3.png,DOE-4,test,,f,no,
"""
MAP = """name: Ours
image: [file]
patient: [patient]
split: [fold]
age: [years]
sex: [sex]
form: columns
positive: ["yes"]
negative: ["no"]
uncertain: [maybe]
targets:
  Effusion: {any_of: [Effusion]}
  Lung opacity: {any_of: [Opacity]}
"""


class Set:
    """A folder of images with a table and its map."""

    def __init__(self, root: Path) -> None:
        self.images, self.table, self.map = root / "images", root / "my.csv", root / "map.yaml"
        for number, name in enumerate(("a/1.png", "a/2.png", "b/1", "b/2.png", "b/3.png", "b/more.png")):
            path = self.images / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(number) if path.suffix else windowed(decode_grey(png(number))))
        self.table.write_text(TABLE)
        self.map.write_text(MAP)

    def write(self, *, table: tuple[str, str] = ("", ""), label_map: tuple[str, str] = ("", "")) -> None:
        """Replace a text in the table or the map."""
        assert table[0] in TABLE and label_map[0] in MAP
        self.table.write_text(TABLE.replace(*table, 1))
        self.map.write_text(MAP.replace(*label_map, 1))

    def build(self, out: Path, **changed: Any) -> Manifest:
        return build_shards(
            [self.images], self.table, out, options(dataset="csv", label_map=str(self.map), **changed)
        )


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    tables = [pq.read_table(path) for path in sorted((folder / "data").glob("*.parquet"))]
    return {row["filename"]: row for table in tables for row in table.to_pylist()}
