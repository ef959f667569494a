"""Exported models with onnxruntime and OpenVINO."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from chexvision.errors import ChexError
from chexvision.images.radiograph import resize_area
from chexvision.labels import NIH
from chexvision.runtime import openvino_engine
from chexvision.runtime.exported import Exported, find_export
from chexvision.runtime.exported_engine import Arrays, ExportedEngine
from chexvision.runtime.onnx_engine import OnnxEngine
from chexvision.runtime.openvino_engine import OpenVinoEngine
from tests.runtime.small_export import CELLS, OUTPUTS, SIDE, expected, model_of, published, small_graph

Kind: TypeAlias = Callable[[Exported], ExportedEngine]
ENGINES: list[Kind] = [OnnxEngine, OpenVinoEngine]


def exported(folder: Path, graph: onnx.ModelProto | bytes | None = None, **changes: Any) -> Exported:
    found = find_export(published(folder, graph, **changes))
    assert found is not None
    return found


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (count, SIDE, SIDE), np.uint8)


@pytest.mark.parametrize("kind", ENGINES)
def test_probabilities_and_maps_are_those_of_the_graph(kind: Kind, tmp_path: Path) -> None:
    engine = kind(exported(tmp_path))
    images = _images(19)
    batch = [engine.prepare(image) for image in images]
    raw, maps = expected(images)
    found = engine.run(batch)
    assert found.probabilities.dtype == np.float64 and found.checks is None
    np.testing.assert_allclose(found.probabilities, raw, atol=1e-6)
    outputs = np.random.default_rng(2).integers(0, OUTPUTS, (19, 3))
    explained = engine.explain(batch, outputs)
    assert (explained.method, explained.values.shape) == ("Grad-CAM", (19, 3, CELLS, CELLS))
    np.testing.assert_allclose(explained.values, maps[np.arange(19)[:, None], outputs], atol=1e-6)
    assert engine.label_space == NIH
    assert engine.name == f"{'onnxruntime' if kind is OnnxEngine else 'OpenVINO'} on cpu, fp32"


@pytest.mark.parametrize("kind", ENGINES)
def test_the_runtime_gets_few_images_at_once(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = kind(exported(tmp_path))
    sizes: list[int] = []
    compute = engine._compute

    def counted(images: NDArray[np.uint8], names: tuple[str, ...]) -> Arrays:
        sizes.append(len(images))
        return compute(images, names)

    monkeypatch.setattr(engine, "_compute", counted)
    engine.run([engine.prepare(image) for image in _images(20)])
    assert sizes == [8, 8, 4]


@pytest.mark.parametrize(("tolerance", "precision"), [(0.005, "bf16"), (-1.0, "fp32")])
def test_openvino_computes_in_bf16_where_that_stays_within_the_tolerance(
    tolerance: float, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenVinoEngine, "_has_bf16", lambda self: True)
    monkeypatch.setattr(openvino_engine, "_TOLERANCE", tolerance)
    found = exported(tmp_path)
    engine = OpenVinoEngine(found, "auto")
    assert engine.name == f"OpenVINO on cpu, {precision}"
    images = _images(3)
    batch = [engine.prepare(image) for image in images]
    raw, maps = expected(images)
    np.testing.assert_allclose(engine.run(batch).probabilities, raw, atol=0.02)
    np.testing.assert_allclose(engine.explain(batch, np.zeros((3, 1), np.int64)).values, maps[:, :1], atol=1e-6)
    assert OpenVinoEngine(found).name == "OpenVINO on cpu, fp32"


@pytest.mark.parametrize("kind", ENGINES)
def test_originals_are_resized_once_to_the_side_of_the_graph(kind: Kind, tmp_path: Path) -> None:
    engine = kind(exported(tmp_path))
    original = np.random.default_rng(3).integers(0, 255, (90, 70), np.uint8)
    (prepared,) = engine.prepare(original)
    np.testing.assert_array_equal(prepared, resize_area(original, SIDE))


@pytest.mark.parametrize("kind", ENGINES)
def test_prediction_does_not_compute_maps(kind: Kind, tmp_path: Path) -> None:
    graph = small_graph()
    (shape,) = (one for one in graph.graph.initializer if one.name == "map_shape")
    shape.CopyFrom(
        numpy_helper.from_array(np.array([-1, 10007, CELLS, CELLS], np.int64), "map_shape")
    )  # fits nothing
    del graph.graph.output[2].type.tensor_type.shape.dim[:]
    engine = kind(exported(tmp_path, graph))
    batch = [engine.prepare(image) for image in _images(1)]
    np.testing.assert_allclose(engine.run(batch).probabilities, expected(_images(1))[0], atol=1e-6)
    with pytest.raises(ChexError, match=r"model\.onnx cannot be used"):
        engine.explain(batch, np.zeros((1, 1), np.int64))


@pytest.mark.parametrize("kind", ENGINES)
def test_a_file_without_maps_names_the_engine_that_explains(kind: Kind, tmp_path: Path) -> None:
    engine = kind(exported(tmp_path, map_method=None))
    with pytest.raises(ChexError, match="gives no maps; use the engine torch"):
        engine.explain([engine.prepare(_images(1)[0])], np.zeros((1, 1), np.int64))


@pytest.mark.parametrize("kind", ENGINES)
def test_what_is_not_a_number_is_an_error(kind: Kind, tmp_path: Path) -> None:
    graph = small_graph()
    (levels,) = (one for one in graph.graph.initializer if one.name == "levels")
    levels.CopyFrom(numpy_helper.from_array(np.array(np.nan, np.float32), "levels"))
    engine = kind(exported(tmp_path, graph))
    with pytest.raises(ChexError, match="not a number"):
        engine.run([engine.prepare(_images(1)[0])])


def _renamed(output: str) -> onnx.ModelProto:
    graph = small_graph()
    for node in graph.graph.node:
        for names in (node.input, node.output):
            names[:] = ["other" if name == output else name for name in names]
    for value in graph.graph.output:
        value.name = "other" if value.name == output else value.name
    return graph


def _two_inputs() -> onnx.ModelProto:
    graph = small_graph()
    graph.graph.input.append(helper.make_tensor_value_info("age", TensorProto.FLOAT, [1]))
    return graph


def _external(location: str) -> onnx.ModelProto:
    graph = small_graph()
    (weights,) = (one for one in graph.graph.initializer if one.name == "weights")
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    return graph


def _custom() -> onnx.ModelProto:
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["images", "height", "width"])
    raw = helper.make_tensor_value_info("raw", TensorProto.FLOAT, ["images", OUTPUTS])
    return model_of([helper.make_node("Run", ["image"], ["raw"], domain="shell")], [image], [raw], domains=["shell"])


def _huge() -> onnx.ModelProto:
    graph = small_graph()
    (weights,) = (one for one in graph.graph.initializer if one.name == "weights")
    del weights.dims[:]
    weights.dims.extend([10**7, 10**7])
    return graph


HOSTILE = {
    "empty": b"",
    "noise": bytes(range(256)) * 4,
    "truncated": small_graph().SerializeToString()[:500],
    "another output": _renamed("raw"),
    "another input": _renamed("image"),
    "two inputs": _two_inputs(),
    "a file outside": _external("../secret.bin"),
    "a file of the working folder": _external("secret.bin"),
    "an absolute path": _external("/etc/hostname"),
    "a custom operator": _custom(),
    "a huge tensor": _huge(),
}


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_damaged_or_hostile_file_is_one_line(
    kind: Kind,
    name: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.bin").write_bytes(bytes(4 * OUTPUTS * CELLS * CELLS))
    found = exported(tmp_path / "model", HOSTILE[name])
    with pytest.raises(ChexError) as raised:
        engine = kind(found)
        engine.run([engine.prepare(_images(1)[0])])
    message = str(raised.value)
    assert "\n" not in message and len(message) < 700
    assert str(found.path) in message and "export the model again, or use the engine torch" in message
    assert capfd.readouterr() == ("", "")
