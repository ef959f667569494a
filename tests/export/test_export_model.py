from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from chexvision.config.data_config import ClaheConfig
from chexvision.config.recipe import Pooling
from chexvision.errors import ChexError
from chexvision.export import agreement, traced
from chexvision.export.export_model import export_model
from chexvision.export.quantize import Calibrating
from chexvision.files.atomic import sha256_of
from chexvision.files.json_files import read_record
from chexvision.images.preprocessing import Preprocessing
from chexvision.inference.load_predictor import load_predictor
from chexvision.labels import NIH
from chexvision.metrics.calibration import Calibration, Curve
from chexvision.metrics.operating_points import OperatingPoints
from chexvision.metrics.thresholds import ChosenOn
from chexvision.models.classifier import CheXVision
from chexvision.predict.operating_files import save_operating_points
from chexvision.runtime.export_info import INFO, MODEL, QUANTIZED, ExportInfo
from tests.explain import trained, transformers

CHOSEN_ON = ChosenOn(dataset="d", split="validation", images=9, images_sha256="0" * 64)
PLATT = Calibration(
    method="platt", chosen_on=CHOSEN_ON, curves=dict.fromkeys(NIH.outputs[1:], Curve(slope=1.7, intercept=-0.6)) | {NIH.outputs[0]: None}
)  # fmt: skip
ISOTONIC = Calibration(
    method="isotonic",
    chosen_on=CHOSEN_ON,
    curves=dict.fromkeys(NIH.outputs, Curve(x=(0.1, 0.4, 0.45, 0.45, 0.8), y=(0.0, 0.2, 0.2, 0.5, 1.0))),
)


def published(
    folder: Path,
    backbone: str,
    side: int,
    calibration: Calibration | None = None,
    pooling: Pooling = "network",
    hidden: int = 8,
    shard_size: int = 80,
) -> Path:
    """A model with random weights, as a run would publish it; its probabilities vary from image to image."""
    torch.manual_seed(3)
    model = CheXVision(
        backbone=backbone,
        hidden_features=hidden,
        preprocessing=Preprocessing(
            shard_size=shard_size, image_size=side, clahe=ClaheConfig(enabled=True, clip_limit=2.0, tiles=8)
        ),
        pooling=pooling,
    ).eval()
    for head in (model.multilabel_head, model.binary_head):
        torch.nn.init.normal_(head.weight, std=1.5)
    model.save_pretrained(folder)
    save_operating_points(OperatingPoints(calibration), folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolutional model, exported. Read only."""
    folder = published(tmp_path_factory.mktemp("exported") / "model", "small", trained.SIDE, PLATT)
    export_model(folder, folder)
    return folder


def info_of(folder: Path) -> ExportInfo:
    return read_record(folder / INFO, ExportInfo)


def test_the_file_computes_what_torch_does(model: Path) -> None:
    session = onnxruntime.InferenceSession(model / MODEL)
    images = np.random.default_rng(1).integers(0, 256, (5, 80, 80)).astype(np.uint8)
    probabilities, raw, maps = session.run(["probabilities", "raw", "maps"], {"image": images})
    engine = load_predictor(model, engine="torch", device="cpu")
    prepared = [engine.engine.prepare(image) for image in images]
    wanted = engine.engine.run(prepared).probabilities
    np.testing.assert_allclose(raw, wanted, atol=1e-5)
    np.testing.assert_allclose(probabilities, engine.points.calibrate(NIH.outputs, wanted), atol=1e-5)
    every = np.tile(np.arange(15), (5, 1))
    np.testing.assert_allclose(maps, engine.engine.explain(prepared, every).values, atol=1e-5)
    assert wanted.std(axis=0).max() > 0.01  # the images do not all give the same


def test_originals_of_any_size_are_taken(model: Path) -> None:
    session = onnxruntime.InferenceSession(model / MODEL)
    engine = load_predictor(model, engine="torch", device="cpu").engine
    for shape in ((240, 160), (81, 300), (30, 200), (9, 9)):
        image = np.random.default_rng(shape[0]).integers(0, 256, shape).astype(np.uint8)
        (raw,) = session.run(["raw"], {"image": image[None]})
        np.testing.assert_allclose(raw, engine.run([engine.prepare(image)]).probabilities, atol=5e-3)


def test_the_record_describes_the_file(model: Path) -> None:
    info = info_of(model)
    assert (info.model, info.side, info.image_size, info.map_method) == ("model", 80, trained.SIDE, "Grad-CAM")
    assert info.calibration == "platt on validation"
    assert info.sources == {
        name: sha256_of(model / name) for name in ("calibration.json", "config.json", "model.safetensors")
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


def test_a_file_that_differs_from_torch_is_refused_and_the_former_one_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    before = (folder / INFO).read_bytes()
    (folder / "calibration.json").unlink()
    scaled = agreement.Expected

    def wrong(*values: object) -> agreement.Expected:
        found = scaled(*values)  # type: ignore[arg-type]
        return scaled(
            *(found.originals, found.resized, found.raw + 0.001, found.calibrated, found.maps, found.checks)
        )

    monkeypatch.setattr(agreement, "Expected", wrong)
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
    assert [one.name for one in outputs] == ["probabilities", "raw"]


@pytest.mark.parametrize(
    ("backbone", "pooling", "method"),
    [
        ("tiny_vit", "network", "Grad-CAM"),
        ("tiny_eva", "attention", "Grad-CAM"),
        ("tiny_swin", "network", "LayerCAM"),
    ],
)
def test_maps_of_transformers_are_those_of_torch(
    tmp_path: Path, backbone: str, pooling: Pooling, method: str
) -> None:
    folder = published(tmp_path / "model", backbone, transformers.SIDE, ISOTONIC, pooling, hidden=0, shard_size=48)
    info = export_model(folder, folder)
    assert info.map_method == method
    difference = info.files[MODEL].maps_difference
    assert difference is not None and difference < 1e-3


def test_int8_is_smaller_and_close(tmp_path: Path) -> None:
    folder = published(tmp_path / "model", "small", trained.SIDE)
    images = np.stack([np.roll(image, 3, axis=0) for image in _square_images(8)])
    info = export_model(folder, folder, calibrating=Calibrating(images))
    file = info.files[QUANTIZED]
    assert file.bytes < info.files[MODEL].bytes
    assert file.maps_difference is None
    assert 1e-6 < file.largest_difference < 0.1
    session = onnxruntime.InferenceSession(folder / QUANTIZED)
    assert [one.name for one in session.get_outputs()] == ["probabilities", "raw"]


def _square_images(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return (
        np.stack([subject.pixels[0] for subject in trained.synthetic_subjects(count, 5)])
        .repeat(2, 1)
        .repeat(2, 2)[:, :80, :80]
    )


def test_a_published_record_is_json(model: Path) -> None:
    assert json.loads((model / INFO).read_text())["format"] == 1
