"""Untrusted CSV files: metadata, split tables, predictions, labels."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from chexvision.files import tables
from tests.hostile.conftest import Refuses
from tests.shards.conftest import HEAD_2020, Release

Make = Callable[[Path], object]


def holding(data: str | bytes) -> Make:
    return lambda path: path.write_bytes(data if isinstance(data, bytes) else data.encode())


def a_bomb(path: Path) -> None:
    path.write_bytes(gzip.compress(b"0" * 2**20) * 17)


# Invalid as any table.
ANY: list[tuple[str, Make, str]] = [
    ("missing", lambda path: None, "there is no file"),
    ("folder", Path.mkdir, "a folder, not a regular file"),
    ("fifo", os.mkfifo, "a FIFO, not a regular file"),
    ("device", lambda path: path.symlink_to("/dev/zero"), "a device, not a regular file"),
    ("link to itself", lambda path: path.symlink_to(path), "symbolic links"),
    ("empty", holding(b""), "has no column"),
    ("binary", holding(bytes(range(256))), "cannot be read"),
    ("utf-16", holding("Image Index,Mass\na.png,0.5\n".encode("utf-16")), "cannot be read"),
    ("truncated gzip", holding(gzip.compress(b"Image Index,Mass\n" * 100)[:-9]), "cannot be read"),
    ("gzip bomb", a_bomb, "more than"),
    ("long field", holding('Image Index,Mass,"' + "x" * 200_000), "field larger than"),
    ("NUL", holding("Image\0Index\n\0,0\n"), "has no column"),
]


USES = ("metadata", "split", "labels", "split table")
MADE = {name: (make, message) for name, make, message in ANY}


@pytest.mark.parametrize(
    ("used_as", "name"),
    [*(("predictions", name) for name in MADE), *((use, name) for use in USES for name in ("fifo", "long field"))],
)
def test_a_file_that_is_not_a_table_is_refused(
    used_as: str, name: str, nih: Release, tmp_path: Path, refuses: Refuses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "LARGEST", 2**24)
    make, message = MADE[name]
    table, good = tmp_path / "table.csv", tmp_path / "good.csv"
    good.write_text(f"image,Mass\n{nih.names[0]},0.5\n")
    make(table)
    build = ["shards", "build", "--images", nih.root, "--out", "out", "--metadata"]
    words = {
        "metadata": [*build, table],
        "split": [*build, nih.metadata, "--split", table],
        "predictions": ["score", table, "--labels", nih.metadata],
        "labels": ["score", good, "--labels", table],
        "split table": ["score", good, "--labels", nih.metadata, "--split-rule", table],
    }[used_as]
    line = refuses(*words)
    if (used_as, name) == ("predictions", "folder"):  # `predict` writes folders of Parquet files
        message = "table.csv holds no Parquet file"
    if table.is_file() or not used_as.startswith("split"):  # otherwise the option names its choices
        assert message in line
    assert "table.csv" in line


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{name},0.5,0.5", "cells"),
        ("{name},nan", "NaN is not a probability"),
        ("{name},inf", "outside [0, 1]"),
        ("{name},-0.001", "outside [0, 1]"),
        ("{name},=cmd|' /C calc'!A0", "is not a probability"),
        ("{name},\x1b[31m0.5", "is not a probability"),
        ("{name}," + "9" * 100_000, "outside [0, 1]"),
        ("{name},0.5\n{name},0.5", "predicted twice"),
        ("../../../etc/passwd,0.5", "not an image of the labels"),
        (",0.5", "not an image of the labels"),
        ("", "predicts no image"),
    ],
)
def test_invalid_predictions_are_refused(
    row: str, message: str, nih: Release, tmp_path: Path, refuses: Refuses
) -> None:
    table = tmp_path / "predictions.csv"
    table.write_text("image,Mass\n" + row.format(name=nih.names[0]) + "\n")
    assert message in refuses("score", table, "--labels", nih.metadata, codes=(2,))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("Mass,0,-1,020Y,M,PA,1,1,1,1", "patient number"),
        (f"Mass,0,{10**30},020Y,M,PA,1,1,1,1", "not a whole number"),
        ("Mass,0,1e400,020Y,M,PA,1,1,1,1", "not a whole number"),
        ("Mass,0,nan,020Y,M,PA,1,1,1,1", "not a whole number"),
        ("Mass,0,1,020Y,M,PA,1e300,1,1,1", "not a whole number"),
        ("Mass,0", "cells"),
        ('"Mass,0,1', "cells"),
    ],
)
def test_invalid_metadata_is_refused(cells: str, message: str, nih: Release, refuses: Refuses) -> None:
    nih.metadata.write_text(f"{HEAD_2020}\n{nih.names[0]},{cells}\n")
    line = refuses("shards", "build", "--images", nih.root, "--metadata", nih.metadata, "--out", "out", codes=(2,))
    assert message in line and "line 2" in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patient_id,split\n1,train\n1,test", "two splits"),
        ("patient_id,split\n1,=1+1", "unknown split"),
        ("patient_id,split\n" + "9" * 5000 + ",train", "patient number"),
        ("patient_id,split\n1", "unknown split"),
        ("patient_id,split\n,train", "patient number"),
        ("patient_id,split\n", "names no patient"),
    ],
)
def test_invalid_split_tables_are_refused(
    text: str, message: str, nih: Release, tmp_path: Path, refuses: Refuses
) -> None:
    table = tmp_path / "table.csv"
    table.write_text(text)
    words = ["shards", "build", "--images", nih.root, "--metadata", nih.metadata, "--split", table, "--out", "out"]
    assert message in refuses(*words, codes=(2,))
