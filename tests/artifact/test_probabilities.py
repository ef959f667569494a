"""``probabilities.npz``: what is written is read; files of another kind are refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chexvision.artifact.probabilities import Probabilities
from chexvision.errors import ChexError
from chexvision.labels import LabelSpace

SPACE = LabelSpace(findings=("Opacity", "Fracture"))
VALUES = np.random.default_rng(0).random((5, 3), np.float32)
SHAS = {"validation": "b" * 64, "test": "c" * 64}
STORED = Probabilities("a" * 64, SPACE, SHAS, {"validation": VALUES, "test": VALUES})


def _about(**changes: Any) -> np.ndarray[Any, Any]:
    about = {
        "format": 1,
        "dataset_identity": "a" * 64,
        "label_space": SPACE.model_dump(),
        "images_sha256": {"validation": "b" * 64},
    }
    return np.frombuffer(json.dumps(about | changes).encode(), np.uint8)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    STORED.write(tmp_path / "p.npz")
    read = Probabilities.read(tmp_path / "p.npz")
    assert (read.dataset_identity, read.label_space, read.images_sha256) == ("a" * 64, SPACE, STORED.images_sha256)
    assert all(np.array_equal(read.by_split[name], VALUES) for name in ("validation", "test"))
    STORED.write(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "p.npz").read_bytes()


CONTENT: dict[str, Callable[[], dict[str, Any]]] = {
    "no record": lambda: {"validation": VALUES},
    "no split": lambda: {"about": _about(images_sha256={})},
    "another split": lambda: {"about": _about(images_sha256={"train": "b" * 64}), "train": VALUES},
    "missing split": lambda: {"about": _about()},
    "later format": lambda: {"about": _about(format=2), "validation": VALUES},
    "doubles": lambda: {"about": _about(), "validation": VALUES.astype(np.float64)},
    "another width": lambda: {"about": _about(), "validation": VALUES[:, :2]},
    "not a probability": lambda: {"about": _about(), "validation": VALUES + 1},
    "not a number": lambda: {"about": _about(), "validation": VALUES * np.float32("nan")},
    "objects": lambda: {"about": _about(), "validation": np.array([[{}] * 3], object)},
    "a record of numbers": lambda: {"about": VALUES, "validation": VALUES},
}


@pytest.mark.parametrize("kind", CONTENT)
def test_other_content_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", **CONTENT[kind]())
    with pytest.raises(ChexError, match="does not hold a run's probabilities") as error:
        Probabilities.read(tmp_path / "p.npz")
    assert "\n" not in str(error.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ChexError, match="No such file"):
        Probabilities.read(tmp_path / "p.npz")
