"""A graph as an ONNX file whose bytes depend on the model alone."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim

from chexvision.export.graph import ExportedGraph
from chexvision.export.traced import NotExportable, reason
from chexvision.runtime.export_info import INPUT

EQUALIZED = "equalized"
FEATURES = "features"
# The newest that onnxruntime-web 1.30 and OpenVINO 2026 both take.
OPSET = 20
# Of originals; the exporter needs bounds, the file has none.
_MOST_IMAGES, _SMALLEST_SIDE, _LARGEST_SIDE = 4096, 8, 100_000


def onnx_model(graph: ExportedGraph) -> Any:
    """The graph as an `onnx_ir.Model`, whose nodes still say which module they are of.

    Its input is ``image`` uint8[images, height, width]. Its outputs are named `ExportedGraph.outputs`; the images
    after equalization are values named ``equalized``, ``equalized_2`` and so on, by member, and pooled features
    ``features``, ``features_2`` and so on.

    Raises:
        NotExportable: the exporter fails.
    """
    side = graph.side
    example = torch.zeros(2, side + 3, side + 5, dtype=torch.uint8)  # of which no side is another's
    sizes = {
        0: Dim("images", min=1, max=_MOST_IMAGES),
        1: Dim("height", min=_SMALLEST_SIDE, max=_LARGEST_SIDE),
        2: Dim("width", min=_SMALLEST_SIDE, max=_LARGEST_SIDE),
    }
    numbers = range(1, len(graph.steps) + 1)
    values = [name if i == 1 else f"{name}_{i}" for name in (EQUALIZED, FEATURES) for i in numbers]
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                graph.eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[*graph.outputs, *values],
                dynamic_shapes=(sizes,),
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # of the exporter, which has many
        raise NotExportable(f"torch.onnx cannot export the network: {reason(error.__cause__ or error)}") from error
    if program is None:
        raise NotExportable("torch.onnx exported nothing")
    outputs = program.model.graph.outputs
    del outputs[len(graph.outputs) :]  # they stay values
    return program.model


def write_onnx(model: Any, path: Path) -> None:
    """Write an `onnx_ir.Model` without what the exporter noted about this machine: source files and lines."""
    import onnx_ir as ir

    for one in (model, model.graph, *model.graph, *model.functions.values()):
        one.metadata_props.clear()
        one.doc_string = None
    for node in model.graph:
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    ir.save(model, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes on its own progress."""
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
