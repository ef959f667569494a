"""Exported models of a few operators, whose answers about an image are known."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from chexvision.labels import LabelSpace
from chexvision.runtime.export_info import INFO, MODEL, CheckLimit, ExportedFile, ExportInfo, ThresholdResult

FINDINGS = ("Effusion", "Nodule")
BRIGHT = "The image is brighter than those that the model knows."


def write_echo_model(folder: Path, *, synthetic: bool = False) -> Path:
    """A model that gives an image's mean gray m as probabilities m, 1 - m and m, and the image itself as its maps.

    Its one check flags images whose mean is above 0.75.
    """
    content = _graph().SerializeToString()
    (folder / MODEL).parent.mkdir(parents=True)
    (folder / MODEL).write_bytes(content)
    results = {name: ThresholdResult(sensitivity=0.8, specificity=0.9, positives=80, images=500) for name in FINDINGS}
    info = ExportInfo(
        version="0.1.0",
        model=folder.name,
        label_space=LabelSpace(findings=FINDINGS),
        side=96,
        image_size=96,
        map_method="Grad-CAM",
        synthetic=synthetic,
        calibration="none",
        rule="highest F1 on validation",
        thresholds={"Effusion": 0.4, "Nodule": 0.6, "Abnormal": 0.5},
        test=results,
        test_set="the test split",
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


def _graph() -> onnx.ModelProto:
    constants = {"rows_columns": np.array([1, 2]), "channel": np.array([1])}
    numbers = {"white": np.array(255, np.float32), "one": np.array(1, np.float32)}
    nodes = [
        helper.make_node("Cast", ["image"], ["gray"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["gray", "white"], ["brightness"]),
        helper.make_node("ReduceMean", ["brightness", "rows_columns"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "channel"], ["checks"]),
        helper.make_node("Sub", ["one", "checks"], ["rest"]),
        helper.make_node("Concat", ["checks", "rest", "checks"], ["probabilities"], axis=1),
        helper.make_node("Unsqueeze", ["gray", "channel"], ["map"]),
        helper.make_node("Concat", ["map", "map", "map"], ["maps"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "echo",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["B", "H", "W"])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["B", 3]),
            helper.make_tensor_value_info("checks", TensorProto.FLOAT, ["B", 1]),
            helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["B", 3, "H", "W"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in {**constants, **numbers}.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model
