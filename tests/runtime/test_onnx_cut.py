"""ONNX files without the outputs that are not needed."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from chexvision.runtime.onnx_cut import without_other_outputs
from tests.runtime.small_export import model_of, small_graph


def test_nodes_and_weights_that_no_kept_output_needs_are_gone() -> None:
    cut = onnx.load_from_string(without_other_outputs(small_graph().SerializeToString(), ["raw"]))
    onnx.checker.check_model(cut, full_check=True)
    assert [one.name for one in cut.graph.output] == ["raw"]
    assert [node.op_type for node in cut.graph.node] == [
        "Cast", "Unsqueeze", "AveragePool", "Div", "Reshape", "Gemm", "Sigmoid",
    ]  # fmt: skip
    assert {one.name for one in cut.graph.initializer} == {"one", "levels", "weights", "flat_shape"}


def test_a_model_whose_outputs_are_all_kept_is_unchanged() -> None:
    content = small_graph().SerializeToString()
    assert without_other_outputs(content, ["raw", "maps", "probabilities"]) == content


def test_what_a_graph_within_a_node_takes_from_outside_is_kept() -> None:
    number = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    branches = [
        helper.make_graph(
            [helper.make_node(kind, ["doubled", "x"], [kind])],
            kind,
            [],
            [helper.make_tensor_value_info(kind, TensorProto.FLOAT, [1])],
        )
        for kind in ("Add", "Sub")
    ]
    model = model_of(
        [
            helper.make_node("Add", ["x", "x"], ["doubled"]),
            helper.make_node("Mul", ["x", "x"], ["squared"]),
            helper.make_node("If", ["yes"], ["y"], then_branch=branches[0], else_branch=branches[1]),
        ],
        [number],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("y", "squared")],
        [numpy_helper.from_array(np.array(True), "yes")],
    )
    cut = without_other_outputs(model.SerializeToString(), ["y"])
    assert [node.op_type for node in onnx.load_from_string(cut).graph.node] == ["Add", "If"]
    session = onnxruntime.InferenceSession(cut, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.array([3], np.float32)})[0].tolist() == [9]


@pytest.mark.parametrize("stop", range(1, 200, 7))
def test_a_truncated_file_is_refused(stop: int) -> None:
    content = small_graph().SerializeToString()
    with pytest.raises(ValueError, match="damaged"):
        without_other_outputs(content[:-stop], ["raw"])


@pytest.mark.parametrize(
    "content", [b"\xff" * 20, b"\x3a\xff", b"\x0b", b"\x3a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"]
)
def test_bytes_that_are_no_message_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="damaged"):
        without_other_outputs(content, ["raw"])
