from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from chexvision.bench import prediction
from chexvision.images.preprocessing import Preprocessing
from chexvision.models.classifier import CheXVision
from tests.bench.test_bench import bench
from tests.runtime.small_export import publish


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.png"), np.random.default_rng(i).integers(0, 255, (90, 70), np.uint8))
    return folder


def test_engines_are_compared_with_the_usual_script_in_the_same_rounds(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction, "_COMMANDS", {"onnxruntime": "onnx"})
    CheXVision("se_resnet34", hidden_features=0, preprocessing=Preprocessing(image_size=32)).save_pretrained(tmp_path)
    words = (publish(tmp_path), "--images", images, "--count", 4, "--rounds", 1, "--workers", 1)
    figures = bench(capsys, "predict", *words)
    assert list(figures) == ["usual script", "torch engine", "onnxruntime", "OpenVINO"]
    usual, ours = figures["usual script"], figures["onnxruntime"]
    assert ours["times the usual script"] == pytest.approx(ours["images/s"] / usual["images/s"])
    assert figures["torch engine"]["times the torch engine"] == 1
    assert figures["torch engine"]["largest difference from the torch engine"] == 0
    assert usual["largest difference from the torch engine"] > 0
    assert ours["first answer, CPU s"] > 0


def test_a_model_that_was_not_exported_is_refused(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    CheXVision("se_resnet34", hidden_features=0, preprocessing=Preprocessing(image_size=32)).save_pretrained(tmp_path)
    with pytest.raises(AssertionError, match="has no exported model; export it with chexvision export"):
        bench(capsys, "predict", tmp_path, "--images", images)
