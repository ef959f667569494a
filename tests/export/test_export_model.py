from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from chexvision.config.recipe import Pooling
from chexvision.errors import ChexError
from chexvision.export import agreement, traced
from chexvision.export.export_model import export_model
from chexvision.export.quantize import Calibrating
from chexvision.export.traced import TracedNetwork
from chexvision.files.atomic import sha256_of
from chexvision.files.json_files import read_record
from chexvision.inference.gradcam import explain_batch
from chexvision.inference.load_predictor import load_predictor
from chexvision.labels import NIH
from chexvision.models.classifier import CheXVision
from chexvision.runtime.export_info import INFO, MODEL, QUANTIZED, ExportInfo
from tests.explain import trained, transformers
from tests.export.published_models import ISOTONIC, published, square_images


def info_of(folder: Path) -> ExportInfo:
    return read_record(folder / INFO, ExportInfo)


def test_the_file_computes_what_torch_does(model: Path) -> None:
    session = onnxruntime.InferenceSession(model / MODEL)
    images = square_images(5)
    probabilities, raw, maps = session.run(["probabilities", "raw", "maps"], {"image": images})
    engine = load_predictor(model, engine="torch", device="cpu")
    prepared = [engine.engine.prepare(image) for image in images]
    wanted = engine.engine.run(prepared).probabilities
    np.testing.assert_allclose(raw, wanted, atol=1e-5)
    np.testing.assert_allclose(probabilities, engine.points.calibrate(NIH.outputs, wanted), atol=1e-5)
    every = np.tile(np.arange(15), (5, 1))
    np.testing.assert_allclose(maps, engine.engine.explain(prepared, every).values, atol=1e-5)
    assert wanted.std(axis=0).max() > 0.01  # the images do not all give the same


def test_originals_are_resized_as_by_opencv(model: Path) -> None:
    session = onnxruntime.InferenceSession(model / MODEL)
    engine = load_predictor(model, engine="torch", device="cpu").engine
    for shape in ((240, 240), (79, 300), (30, 200), (9, 9)):
        image = np.random.default_rng(shape[0]).integers(0, 256, shape).astype(np.uint8)
        (raw,) = session.run(["raw"], {"image": image[None]})
        np.testing.assert_allclose(raw, engine.run([engine.prepare(image)]).probabilities, atol=1e-5)


def test_the_record_describes_the_file(model: Path) -> None:
    info = info_of(model)
    assert (info.model, info.side, info.image_size, info.map_method) == ("model", 80, trained.SIDE, "Grad-CAM")
    assert info.calibration == "platt on validation"
    assert info.sources == {
        name: sha256_of(model / name)
        for name in ("calibration.json", "config.json", "input_check.npz", "model.safetensors")
    }
    file = info.files[MODEL]
    assert file.sha256 == sha256_of(model / MODEL)
    assert file.bytes == (model / MODEL).stat().st_size
    assert 0 < file.largest_difference < 1e-5
    assert file.maps_difference is not None and file.maps_difference < 1e-4


def test_equal_models_give_equal_bytes_that_name_no_place(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "model"
    shutil.copytree(model, other, ignore=shutil.ignore_patterns("onnx"))
    export_model(other, other)
    assert (other / MODEL).read_bytes() == (model / MODEL).read_bytes()
    assert (other / INFO).read_bytes() == (model / INFO).read_bytes()
    content = (model / MODEL).read_bytes()
    assert not [word for word in (b"/site-packages", b".py", b"/home", str(Path.cwd()).encode()) if word in content]


@pytest.fixture
def written_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export of a copy of `model` takes the file that was written for it."""

    def copy(published: object, ensemble: object, layers: object, path: Path) -> None:
        shutil.copyfile(model / MODEL, path)

    monkeypatch.setattr("chexvision.export.export_model._write", copy)


@pytest.mark.usefixtures("written_once")
def test_a_file_that_differs_from_torch_is_refused_and_the_former_one_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    before = (folder / INFO).read_bytes() + b" "
    (folder / INFO).write_bytes(before)

    def wrong(*arguments: object) -> agreement.Expected:
        found = agreement.expected(*arguments)  # type: ignore[arg-type]
        return replace(found, raw=found.raw + 0.001)

    monkeypatch.setattr("chexvision.export.export_model.expected", wrong)
    with pytest.raises(ChexError, match=r"differs from torch: its probabilities by 0\.001"):
        export_model(folder, folder)
    assert (folder / INFO).read_bytes() == before
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".onnx.")) in ([], [".onnx.lock"])


def test_a_network_whose_maps_cannot_be_traced_is_exported_without(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise NotImplementedError("no gradient of this")

    monkeypatch.setattr(traced, "_traced_maps", fail)
    info = export_model(model, tmp_path)
    assert info.map_method is None
    assert info.without_maps == "the maps of small cannot be traced: no gradient of this"
    outputs = onnxruntime.InferenceSession(tmp_path / MODEL).get_outputs()
    assert [one.name for one in outputs] == ["probabilities", "raw", "checks"]


@pytest.mark.parametrize(
    ("backbone", "pooling", "method"),
    [
        ("tiny_vit", "network", "Grad-CAM"),
        ("tiny_eva", "attention", "Grad-CAM"),
        ("tiny_swin", "network", "LayerCAM"),
    ],
)
def test_traced_maps_of_transformers_are_those_of_torch(
    tmp_path: Path, backbone: str, pooling: Pooling, method: str
) -> None:
    folder = published(tmp_path / "model", backbone, transformers.SIDE, None, pooling, hidden=0, shard_size=48)
    network = CheXVision.from_pretrained(folder).eval()
    images = torch.from_numpy(np.stack([network.preprocessing.apply(image) for image in square_images(5)]))
    every = torch.arange(15).expand(5, 15)
    wanted = explain_batch(network, network.normalize(images), every)
    assert wanted.method == method
    with torch.no_grad():
        logits, _, maps = TracedNetwork(network, wanted)(images.float())
    np.testing.assert_allclose(logits.sigmoid(), wanted.probabilities, atol=1e-4)
    np.testing.assert_allclose(maps, wanted.values, atol=1e-4 * float(wanted.values.max()))


def test_a_transformer_is_exported_as_convolutional_networks_are(tmp_path: Path) -> None:
    folder = published(tmp_path / "model", "tiny_swin", transformers.SIDE, ISOTONIC, hidden=0, shard_size=48)
    info = export_model(folder, folder)
    assert info.map_method == "LayerCAM"
    difference = info.files[MODEL].maps_difference
    assert difference is not None and difference < 1e-3


@pytest.mark.usefixtures("written_once")
def test_int8_is_smaller_and_close(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    info = export_model(folder, folder, calibrating=Calibrating(square_images(8)))
    file = info.files[QUANTIZED]
    assert file.bytes < info.files[MODEL].bytes
    assert file.maps_difference is None
    assert 1e-6 < file.largest_difference < 0.1
    session = onnxruntime.InferenceSession(folder / QUANTIZED)
    assert [one.name for one in session.get_outputs()] == ["probabilities", "raw", "checks"]


def test_a_published_record_is_json(model: Path) -> None:
    assert json.loads((model / INFO).read_text())["format"] == 1
