"""Synthetic releases by name: each in the real layout, with real file formats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from chexvision.errors import UsageError
from chexvision.files.atomic_folder import atomic_folder
from chexvision.images.radiograph import expected_bytes
from chexvision.synthetic.layouts.chestmnist_layout import write_chestmnist
from chexvision.synthetic.layouts.chexpert_layout import write_chexpert
from chexvision.synthetic.layouts.films import Film, plan_films
from chexvision.synthetic.layouts.mimic_layout import write_mimic_dicom, write_mimic_jpg
from chexvision.synthetic.layouts.padchest_layout import write_padchest
from chexvision.synthetic.layouts.vindr_layout import write_vindr

Layout: TypeAlias = Callable[[Path, Sequence[Film], int], None]  # the folder, its images, their side in pixels

LAYOUTS: dict[str, Layout] = {
    "chexpert": write_chexpert,
    "mimic": write_mimic_jpg,
    "mimic-dicom": write_mimic_dicom,
    "padchest": write_padchest,
    "vindr": write_vindr,
    "chestmnist": write_chestmnist,
}
_FEWEST, _SMALLEST = 12, 32


def write_release(name: str, out: Path, *, images: int, seed: int, size: int) -> None:
    """Write a small synthetic release; equal arguments give equal bytes.

    A quarter of the images are lateral, and left out where a release has none; patients have several studies; some
    labels are uncertain or not mentioned.

    Args:
        name: of `LAYOUTS`.
        out: the folder to make.
        images: how many, 12 or more.
        seed: of all random choices.
        size: side of the images in pixels.

    Raises:
        UsageError: an argument is out of range, or `out` is not empty.
        ChexError: the disk is full.
    """
    if name not in LAYOUTS:
        raise UsageError(
            f"--release {name!r} is none of {', '.join(LAYOUTS)}; without it shards of NIH's findings are made"
        )
    if images < _FEWEST:
        raise UsageError(f"--images {images}: a release needs {_FEWEST} or more, so that no split is empty")
    if size < _SMALLEST:
        raise UsageError(f"--size {size} is too small to show a nodule; use {_SMALLEST} or more")

    def check() -> None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(f"--out {out} exists and is not empty; name another folder")

    # Uncompressed DICOM and 16-bit PNG take about four times a PNG of 8 bits.
    needed = 4 * expected_bytes(images, size, "png")
    with atomic_folder(out, check=check, needed_bytes=needed, exit_on_sigterm=True) as folder:
        LAYOUTS[name](folder, plan_films(images, seed), size)
