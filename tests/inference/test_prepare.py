from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import tests.training.runs  # noqa: F401 - registers the backbone "tiny"
from chexvision.errors import UsageError
from chexvision.images.preprocessing import Preprocessing
from chexvision.inference.prepare import prepare, prepared
from chexvision.models.classifier import CheXVision


@pytest.fixture
def model() -> CheXVision:
    return CheXVision(backbone="tiny", hidden_features=0, preprocessing=Preprocessing(image_size=16))


def _images(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"{i}.png" for i in range(count)]
    for i, path in enumerate(paths):
        cv2.imwrite(str(path), np.full((20 + i, 30), i, np.uint8))
    return paths


def test_batches_contain_every_file_once_in_order(model: CheXVision, tmp_path: Path) -> None:
    paths = _images(tmp_path, 7)
    batches = list(prepared(model, paths, 3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(batches), [prepare(model, path) for path in paths])


def test_a_missing_file_is_named_before_the_first_batch(model: CheXVision, tmp_path: Path) -> None:
    paths = _images(tmp_path, 7)
    paths[-1].unlink()
    with pytest.raises(UsageError, match=r"6\.png: No such file"):
        next(prepared(model, paths, 2))


def test_a_file_that_is_not_an_image_is_named(model: CheXVision, tmp_path: Path) -> None:
    paths = _images(tmp_path, 3)
    paths[1].write_text("not an image")
    with pytest.raises(UsageError, match=r"1\.png: "):
        list(prepared(model, paths, 2))
