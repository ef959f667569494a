"""torch, onnxruntime and OpenVINO give the same answers and maps for the same radiograph, whatever its format."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from chexvision.explain.image_maps import explain_images
from chexvision.inference.load_predictor import EngineName, load_predictor
from chexvision.predict.predictor import Predictor
from tests.explain import trained

ENGINES: tuple[EngineName, ...] = ("torch", "onnx", "openvino")


@pytest.fixture(scope="module")
def predictors(exported_model: Path) -> dict[EngineName, Predictor]:
    return {engine: load_predictor(exported_model, engine, "cpu") for engine in ENGINES}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One radiograph as PNG, 16-bit PNG, RGBA and JPEG, and one of an odd shape."""
    folder = tmp_path_factory.mktemp("images")
    (subject,) = trained.synthetic_subjects(1, seed=3)
    gray = cv2.resize(subject.pixels[0], (320, 240), interpolation=cv2.INTER_CUBIC)
    images = {
        "gray.png": gray,
        "16bit.png": gray.astype(np.uint16) * 257,
        "rgba.png": cv2.cvtColor(gray, cv2.COLOR_GRAY2BGRA),
        "odd.png": gray[:193, :317],
    }
    for name, image in images.items():
        cv2.imwrite(str(folder / name), image)
    cv2.imwrite(str(folder / "gray.jpg"), gray, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return [folder / name for name in (*images, "gray.jpg")]


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_answers_are_those_of_torch(
    engine: EngineName, predictors: dict[EngineName, Predictor], files: list[Path]
) -> None:
    wanted, found = (predictors[name].predict(files) for name in ("torch", engine))
    assert any(answer.warnings for answer in wanted)  # of the input check, too
    for expected, answer in zip(wanted, found, strict=True):
        assert answer.probabilities == pytest.approx(expected.probabilities, abs=1e-4)
        assert (answer.warnings, answer.notes, answer.model) == (expected.warnings, expected.notes, expected.model)


@pytest.mark.parametrize("engine", ENGINES)
def test_lossless_formats_are_equal_and_jpeg_is_close(
    engine: EngineName, predictors: dict[EngineName, Predictor], files: list[Path]
) -> None:
    by_name = {path.name: predictors[engine].predict(path).probabilities for path in files}
    assert by_name["16bit.png"] == by_name["rgba.png"] == by_name["gray.png"]
    assert by_name["gray.jpg"] == pytest.approx(by_name["gray.png"], abs=0.01)


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_explanations_are_those_of_torch(
    engine: EngineName, predictors: dict[EngineName, Predictor], files: list[Path], tmp_path: Path
) -> None:
    chosen = files[:1]
    wanted, found = (explain_images(predictors[name], chosen, tmp_path / name)[0] for name in ("torch", engine))
    assert found.scale == pytest.approx(wanted.scale, rel=1e-3) and found.scale > 0
    for expected, overlay in zip(wanted.overlays, found.overlays, strict=True):
        assert (overlay.finding, overlay.overlay, overlay.method) == (
            expected.finding,
            expected.overlay,
            expected.method,
        )
        assert overlay.largest == pytest.approx(expected.largest, rel=1e-3, abs=1e-6)
        shown = [np.asarray(cv2.imread(str(tmp_path / name / overlay.overlay)), int) for name in ("torch", engine)]
        assert np.abs(shown[0] - shown[1]).max() <= 2
