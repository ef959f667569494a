"""Exported models of a few operators with findings above, near, below and without threshold."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from chexvision.labels import LabelSpace
from chexvision.runtime.export_info import INFO, MODEL, CheckLimit, ExportedFile, ExportInfo, ThresholdResult

FINDINGS = ("Atelectasis", "Cardiomegaly", "Effusion", "Mass", "Nodule", "Pleural_Thickening")
OUTPUTS = (*FINDINGS, "Abnormal")
BRIGHT = "The image is brighter than those that the model was trained on."
THRESHOLDS = {"Atelectasis": 0.3, "Cardiomegaly": 0.1, "Effusion": 0.2, "Mass": 0.4, "Nodule": 0.5, "Abnormal": 0.5}
WITHOUT_MAP = "Nodule"
_SIDE = 64  # of the image that is pooled


@dataclass(frozen=True)
class Expected:
    """What Python computes for an image."""

    probabilities: dict[str, float]
    maps: dict[str, NDArray[np.float32]]


def write_finding_model(
    folder: Path, typical: tuple[float, ...] = (0.6, 0.3, 0.13, 0.02, 0.05, 0.1, 0.8), grid: int = 8
) -> Path:
    """A model whose probabilities are close to `typical`, a little higher for bright images.

    Each output's map has one bright spot in a place of its own, `WITHOUT_MAP` has none. Its one check flags images
    whose mean is above 0.75. It is said to be trained on synthetic images, and has neither a threshold nor test
    results for Pleural_Thickening, and too few cases of Mass for any.
    """
    content = _graph(typical, grid).SerializeToString()
    (folder / MODEL).parent.mkdir(parents=True)
    (folder / MODEL).write_bytes(content)
    test = {
        name: ThresholdResult(sensitivity=0.8, specificity=0.9, precision=0.4, positives=80, images=1580)
        for name in THRESHOLDS
    }
    test["Mass"] = ThresholdResult(positives=3, images=1580)
    info = ExportInfo(
        version="0.1.0",
        model=folder.name,
        run_id=f"{folder.name}-20260101-0000-abcd",
        label_space=LabelSpace(findings=FINDINGS),
        side=_SIDE,
        image_size=_SIDE,
        map_method="Grad-CAM",
        synthetic=True,
        calibration="Platt scaling on validation",
        rule="highest F1 on validation",
        thresholds=THRESHOLDS,
        test=test,
        test_set="the test split of synthetic images",
        checks=(CheckLimit(name="bright", limit=0.75, message=BRIGHT),),
        sources={},
        files={
            MODEL: ExportedFile(
                sha256=hashlib.sha256(content).hexdigest(), bytes=len(content), images=1, largest_difference=0.0
            )
        },
    )
    (folder / INFO).write_text(info.model_dump_json(indent=1), encoding="utf-8")
    (folder / "config.json").write_text("{}", encoding="utf-8")
    return folder


def compute(folder: Path, pixels: NDArray[np.uint8]) -> Expected:
    """What onnxruntime in Python computes for uint8[H, W]."""
    session = onnxruntime.InferenceSession(folder / MODEL, providers=["CPUExecutionProvider"])
    probabilities, maps = session.run(["probabilities", "maps"], {"image": pixels[None]})
    return Expected(
        dict(zip(OUTPUTS, probabilities[0].tolist(), strict=True)), dict(zip(OUTPUTS, maps[0], strict=True))
    )


def _graph(typical: tuple[float, ...], grid: int) -> onnx.ModelProto:
    spots = np.zeros((1, len(OUTPUTS), grid, grid), np.float32)
    for i, name in enumerate(OUTPUTS):
        if name != WITHOUT_MAP:
            spots[0, i, i % grid, (3 * i) % grid] = 0.1 + 0.02 * i
    logits = np.array([[math.log(p / (1 - p)) for p in typical]], np.float32)
    constants = {
        "white": np.array(255, np.float32),
        "sizes": np.array([1, 1, grid, grid]),
        "channel": np.array([1]),
        "all": np.array([2, 3]),
        "spots": spots,
        "logits": logits,
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["gray"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["gray", "white"], ["brightness"]),
        helper.make_node("Unsqueeze", ["brightness", "channel"], ["original"]),
        helper.make_node("Resize", ["original", "", "", "sizes"], ["small"], mode="linear"),
        helper.make_node("Mul", ["small", "spots"], ["maps"]),
        helper.make_node("ReduceSum", ["maps", "all"], ["raised"], keepdims=0),
        helper.make_node("Add", ["raised", "logits"], ["sums"]),
        helper.make_node("Sigmoid", ["sums"], ["probabilities"]),
        helper.make_node("ReduceMean", ["original", "all"], ["checks"], keepdims=0),
    ]
    outputs = {"probabilities": [1, len(OUTPUTS)], "checks": [1, 1], "maps": list(spots.shape)}
    graph = helper.make_graph(
        nodes,
        "findings",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, "H", "W"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model
