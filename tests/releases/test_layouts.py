"""Synthetic releases."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest

from chexvision.errors import UsageError
from chexvision.images.reading import read_radiograph
from chexvision.synthetic.layouts.dicom_file import dicom_file
from chexvision.synthetic.layouts.write_release import LAYOUTS, write_release


@pytest.mark.parametrize("name", LAYOUTS)
def test_equal_arguments_write_equal_releases(name: str, tmp_path: Path) -> None:
    size = 64 if name == "chestmnist" else 32  # its smallest
    for folder in ("one", "again"):
        write_release(name, tmp_path / folder, images=12, seed=3, size=size)
    trees = [
        {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
        for root in (tmp_path / "one", tmp_path / "again")
    ]
    assert trees[0] == trees[1]
    with pytest.raises(UsageError, match="exists and is not empty"):
        write_release(name, tmp_path / "again", images=12, seed=3, size=size)


@pytest.mark.parametrize("monochrome1", [False, True])
def test_a_synthetic_dicom_file_is_one_for_other_readers(monochrome1: bool) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (33, 47), dtype=np.uint8)
    data = dicom_file(grey, "1.2.3.4", "PA", monochrome1=monochrome1)
    found = pydicom.dcmread(io.BytesIO(data))
    values = found.pixel_array if not monochrome1 else 4095 - found.pixel_array
    assert np.abs(values - np.round(grey * (4095 / 255))).max() <= 1
    assert (found.ViewPosition, found.Modality, found.BodyPartExamined) == ("PA", "DX", "CHEST")
    assert np.abs(read_radiograph(data).pixels.astype(int) - grey).max() <= 1
