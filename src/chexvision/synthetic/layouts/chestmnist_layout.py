"""A synthetic release in the layout of ChestMNIST: one ``.npz`` file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chexvision.errors import UsageError
from chexvision.labels import NIH
from chexvision.synthetic.layouts.films import Film

_SIZES = (64, 128, 224)  # of MedMNIST, without 28, where nothing can be seen
_SPLITS = {"train": "train", "val": "validation", "test": "test"}


def write_chestmnist(out: Path, films: Sequence[Film], size: int) -> None:
    """Write `chestmnist_SIZE.npz`; lateral images are left out, as there are none in ChestMNIST.

    Raises:
        UsageError: MedMNIST has no such size.
    """
    if size not in _SIZES:
        raise UsageError(f"--size {size}: ChestMNIST has images of {', '.join(map(str, _SIZES))} pixels; choose one")
    arrays: dict[str, Any] = {}
    for name, split in _SPLITS.items():
        chosen = [film for film in films if film.split == split and film.view != "L"]
        labels = [[finding in film.visit.findings for finding in NIH.findings] for film in chosen]
        arrays[f"{name}_images"] = np.stack([film.pixels(size) for film in chosen])
        arrays[f"{name}_labels"] = np.array(labels, np.uint8)
    np.savez_compressed(out / f"chestmnist_{size}.npz", **arrays)
