"""The same radiograph in any kind of file, in the browser and in Python: the same probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page

from chexvision.inference.load_predictor import load_predictor
from chexvision.predict.answer import Answer
from chexvision.predict.predictor import Predictor
from chexvision.synthetic.anatomy import sample_chest
from chexvision.synthetic.render import render_radiograph
from tests.web.conftest import ServeApp, watched_page
from tests.web.image_files import SYNTAXES, Gray, dicom, jpeg, png
from tests.web.in_browser import answer_in

WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}


@pytest.fixture(scope="module")
def predictors(exported_model: Path) -> list[Predictor]:
    """Python's engines: the network itself, and the exported file as in the page."""
    return [load_predictor(exported_model, engine="torch"), load_predictor(exported_model, engine="onnx")]


@pytest.fixture(scope="module")
def model_page(browser: Browser, exported_model: Path, serve_app: ServeApp) -> Iterator[Page]:
    with watched_page(browser) as page:
        page.goto(serve_app(exported_model))
        yield page


def in_python(predictor: Predictor, data: bytes) -> NDArray[np.float64]:
    """The probabilities of an image's outputs, calibrated."""
    (answer,) = predictor.answers([("image", lambda: data)])
    assert isinstance(answer, Answer)
    return np.array(list(answer.probabilities.values()))


def in_page(page: Page, data: bytes) -> NDArray[np.float64]:
    """The same in the browser."""
    return np.array(answer_in(page, data)["probabilities"])


@pytest.fixture(scope="module")
def pixels() -> Gray:
    """A synthetic radiograph."""
    random = np.random.default_rng(11)
    return render_radiograph(random, sample_chest(random, female=True), ("Effusion",), "PA", 400)[0]


def test_probabilities_of_real_radiographs_equal_those_of_python(
    model_page: Page, predictors: list[Predictor], real_data: Path
) -> None:
    for path in sorted((real_data / "nih-sample").rglob("*.png"))[:5]:
        data = path.read_bytes()
        found = in_page(model_page, data)
        for predictor in predictors:
            np.testing.assert_allclose(found, in_python(predictor, data), atol=1e-3)


def lossless(pixels: Gray) -> dict[str, bytes]:
    """Files of 8 bits, and of 12 bits that a window makes the same 8."""
    values = np.round(pixels.astype(np.float64) * 4095 / 255).astype(np.int64)
    inverted = 4095 - values
    dark = {"PhotometricInterpretation": "MONOCHROME1", **WINDOW}
    return {
        "PNG": png(pixels),
        "RGBA": png(np.dstack([pixels] * 4)),
        "PNG of 16 bits": png(pixels.astype(np.uint16) * 257),
        "MONOCHROME2": dicom(values, 12, **WINDOW),
        "MONOCHROME1": dicom(inverted, 12, **dark),
        **{f"MONOCHROME1, {name}": dicom(inverted, 12, **dark, **how) for name, how in SYNTAXES.items()},
    }


def test_every_lossless_file_has_the_same_probabilities(
    model_page: Page, predictors: list[Predictor], pixels: Gray
) -> None:
    files = lossless(pixels)
    found = {name: in_page(model_page, data) for name, data in files.items()}
    assert np.ptp(found["PNG"]) > 0.1
    for name in files:
        np.testing.assert_array_equal(found[name], found["PNG"], err_msg=name)
    for predictor in predictors:
        expected = in_python(predictor, files["PNG"])
        np.testing.assert_allclose(found["PNG"], expected, atol=1e-3)
        for name, data in files.items():
            np.testing.assert_array_equal(in_python(predictor, data), expected, err_msg=name)


def test_a_jpeg_has_nearly_the_same_probabilities(
    model_page: Page, predictors: list[Predictor], pixels: Gray
) -> None:
    data = jpeg(pixels)
    found = in_page(model_page, data)
    for predictor in predictors:
        np.testing.assert_allclose(found, in_python(predictor, data), atol=1e-3)
    np.testing.assert_allclose(found, in_page(model_page, png(pixels)), atol=1e-2)


def test_maps_are_those_of_python(model_page: Page, predictors: list[Predictor], pixels: Gray) -> None:
    maps = answer_in(model_page, png(pixels))["maps"]
    for engine in (predictor.engine for predictor in predictors):
        outputs = np.arange(len(engine.label_space.outputs))[None]
        expected = engine.explain([engine.prepare(pixels)], outputs).values[0]
        assert maps["shape"] == list(expected.shape[1:])
        np.testing.assert_allclose(np.reshape(maps["values"], expected.shape), expected, atol=1e-3 * expected.max())
