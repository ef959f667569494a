"""A published model with an exported file: a graph of a few nodes, and what it computes in numpy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from chexvision.labels import NIH
from chexvision.predict.published import Published, read_published
from chexvision.runtime.export_info import INFO, MODEL

SIDE, CELLS = 16, 4
OUTPUTS = len(NIH.outputs)
_RNG = np.random.default_rng(0)
WEIGHTS = _RNG.normal(size=(OUTPUTS, CELLS * CELLS)).astype(np.float32)


def expected(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Raw probabilities float[B, K + 1] and maps float[B, K + 1, CELLS, CELLS] of uint8[B, SIDE, SIDE]."""
    step = SIDE // CELLS
    cells = images.reshape(-1, CELLS, step, CELLS, step).mean(axis=(2, 4), dtype=np.float32) / 255
    flat = cells.reshape(len(images), -1)
    raised = np.maximum(flat[:, None] * WEIGHTS, 0).reshape(len(images), OUTPUTS, CELLS, CELLS)
    return 1 / (1 + np.exp(-flat @ WEIGHTS.T)), raised.astype(np.float32)


def small_graph() -> onnx.ModelProto:
    """The graph of `expected`; its nodes for the maps come before others and after them."""
    nodes = [
        helper.make_node("Cast", ["image"], ["equalized"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["equalized", "one"], ["channel"]),
        helper.make_node("AveragePool", ["channel"], ["mean"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Div", ["mean", "levels"], ["cells"]),
        helper.make_node("Reshape", ["cells", "flat_shape"], ["features"]),
        helper.make_node("Unsqueeze", ["features", "one"], ["row"]),
        helper.make_node("Mul", ["row", "weights"], ["products"]),
        helper.make_node("Relu", ["products"], ["raised"]),
        helper.make_node("Reshape", ["raised", "map_shape"], ["maps"]),
        helper.make_node("Gemm", ["features", "weights"], ["logits"], transB=1),
        helper.make_node("Sigmoid", ["logits"], ["raw"]),
        helper.make_node("Identity", ["raw"], ["probabilities"]),
    ]
    constants: dict[str, NDArray[Any]] = {
        "one": np.array([1], np.int64),
        "levels": np.array(255, np.float32),
        "weights": WEIGHTS,
        "flat_shape": np.array([-1, CELLS * CELLS], np.int64),
        "map_shape": np.array([-1, OUTPUTS, CELLS, CELLS], np.int64),
    }
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["images", "height", "width"])
    given = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["images", *shape])
        for name, shape in (("probabilities", [OUTPUTS]), ("raw", [OUTPUTS]), ("maps", [OUTPUTS, CELLS, CELLS]))
    ]
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    return model_of(nodes, [image], given, weights)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto] = (),
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """A model of some nodes."""
    graph = helper.make_graph(nodes, "graph", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 20), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def publish(folder: Path, graph: onnx.ModelProto | bytes | None = None, **changes: Any) -> Path:
    """Write an exported file of `graph` to a model folder, with some entries of its description changed.

    A folder without a model becomes one that cannot be computed otherwise.
    """
    content = graph if isinstance(graph, bytes) else (graph or small_graph()).SerializeToString()
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    (folder / MODEL).write_bytes(content)
    if not (folder / "config.json").exists():
        (folder / "config.json").write_text('{"format": 3}')
        (folder / "model.safetensors").write_bytes(b"weights")
    info = {
        "version": "0.1.0",
        "model": "small",
        "label_space": json.loads(NIH.model_dump_json()),
        "side": SIDE,
        "image_size": SIDE,
        "map_method": "Grad-CAM",
        "synthetic": False,
        "calibration": "none",
        "rule": "none",
        "thresholds": {},
        "sources": {name: _sha256((folder / name).read_bytes()) for name in ("config.json", "model.safetensors")},
        "files": {MODEL: {"sha256": _sha256(content), "bytes": len(content), "images": 1, "largest_difference": 0.0}},
        **changes,
    }
    (folder / INFO).write_text(json.dumps(info))
    return folder


def published(folder: Path, graph: onnx.ModelProto | bytes | None = None, **changes: Any) -> Published:
    """As `publish`, read back."""
    return read_published(publish(folder, graph, **changes))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
