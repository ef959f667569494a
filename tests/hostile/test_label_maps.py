"""Untrusted label maps and tables of labels: one line that names the file."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from chexvision.label_maps.label_map import LabelMap, Target
from tests.hostile.conftest import Refuses

START = "name: x\nform: columns\nimage: [file]\n"
END = "targets: {A: {any_of: [a]}}\n"
Make = Callable[[Path], object]


def holding(text: str) -> Make:
    return lambda path: path.write_text(text)


def aliases() -> str:
    """A few lines that stand for 9 · 8⁸ texts."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for before, name in pairwise("abcdefghi"):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 8)}]")
    return "\n".join(lines)


MAPS: dict[str, tuple[Make, str]] = {
    "a FIFO": (os.mkfifo, "a FIFO, not a regular file"),
    "a folder": (Path.mkdir, "a folder, not a regular file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "a device, not a regular file"),
    "large": (holding("a" * 2**21), "more than 1 MiB"),
    "binary": (lambda path: path.write_bytes(bytes(range(256))), "cannot be read"),
    "no YAML": (holding("a: [b"), "cannot be read"),
    "a list": (holding("[1, 2]"), "label map"),
    "empty": (holding(""), "label map"),
    "deep": (holding("[" * 20_000), "label map"),
    "code": (holding("!!python/object/apply:os.system [touch pwned]"), "cannot be read"),
    "aliases": (holding(aliases()), "label map"),
    "a pattern": (holding(START + 'patient_pattern: "("\n' + END), "patient_pattern is not a regular expression"),
    "no group": (holding(START + 'patient_pattern: "a"\n' + END), "patient_pattern has no group"),
    "a path": (holding((START + END).replace("image: [file]", 'image_path: "{file.x}{0}{"')), "image_path"),
    "a wide path": (holding((START + END).replace("image: [file]", 'image_path: "{file:9999999999}"')), "image_path"),
    "a cycle": (
        holding((START + END).replace("columns", "list\nlabels: a") + "tree: {a: [b], b: [a]}\n"),
        "is below itself",
    ),
}


@pytest.mark.parametrize("kind", MAPS)
def test_a_file_that_is_not_a_label_map_is_refused(kind: str, tmp_path: Path, refuses: Refuses) -> None:
    make, message = MAPS[kind]
    make(tmp_path / "map.yaml")
    (tmp_path / "my.csv").write_text("file,a\nx.png,1\n")
    (tmp_path / "images").mkdir()
    words = ["--images", tmp_path / "images", "--labels", tmp_path / "my.csv", "--map", tmp_path / "map.yaml"]
    assert message in refuses("shards", "build", *words, "--out", "out", codes=(2,))
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "has no rows"),
        (b"file,a\n", "has no rows"),
        (b"file,a\nx.png," + b"x" * 200_000, "field larger than"),
        (b"\xff\xfe\0\0", "cannot be read"),
        (b"file,a\n\x1b[31m.png,1\n", "none of the 1 images"),
        (b"file,a\n../../x.png,1\n", "none of the 1 images"),
        (b"file,b\nx.png,1\n", "has no column 'a'"),
    ],
)
def test_invalid_tables_of_labels_are_refused(text: bytes, message: str, tmp_path: Path, refuses: Refuses) -> None:
    (tmp_path / "map.yaml").write_text(START + END)
    (tmp_path / "my.csv").write_bytes(text)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "other.png").write_bytes(b"")
    words = ["--images", tmp_path / "images", "--labels", tmp_path / "my.csv", "--map", tmp_path / "map.yaml"]
    assert message in refuses("shards", "build", *words, "--out", "out", codes=(2,))


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.write_bytes(b"\xff\xfe\0\0")])
def test_a_template_of_no_table_is_refused(make: Make, tmp_path: Path, refuses: Refuses) -> None:
    make(tmp_path / "my.csv")
    assert "cannot be read" in refuses("labels", "template", tmp_path / "my.csv", codes=(2,))


def test_a_tree_with_many_ways_to_a_label_is_read_at_once() -> None:
    """2⁶⁰ ways lead from the first label to the last."""
    tree: dict[str, tuple[str, ...]] = {f"{side}{i}": (f"a{i + 1}", f"b{i + 1}") for i in range(60) for side in "ab"}
    read = LabelMap(name="x", image=("f",), form="list", labels="l", tree=tree, targets={"A": Target(any_of=("a0",))})
    assert len(read.below("a0")) == 121
    assert len(read.above("a60")) == 120
