"""An exported file in int8: static quantization of the network, calibrated on images.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018, by onnxruntime. Preparation, calibration and the input check stay in float32. The file gives no maps: their
gradients would be those of other weights, and the file in float32 is next to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chexvision.artifact.recorded_split import split_for
from chexvision.config.data_config import ClaheConfig
from chexvision.data.decode import decoded_images
from chexvision.data.rows import Rows, read_rows
from chexvision.data.source import ShardSource, find_shards
from chexvision.errors import ChexError, UsageError
from chexvision.export.agreement import open_session, without_maps
from chexvision.export.onnx_file import EQUALIZED
from chexvision.hub.reference import Reference
from chexvision.images.preprocessing import Preprocessing
from chexvision.inference.labeled import labeled
from chexvision.labels import LabelSpace
from chexvision.metrics.measure import measure
from chexvision.metrics.ranking import Floats
from chexvision.runtime.export_info import INPUT, ExportedFile
from chexvision.runtime.onnx_cut import without_other_outputs

LARGEST_LOSS = 0.002  # of macro AUROC
# Of a probability, where no labels tell whether ranking suffers.
LARGEST_CHANGE = 0.1
_CALIBRATION_IMAGES = 128
_MOST_LABELED = 2000
_BATCH = 8
_QUANTIZED = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True)
class Calibrating:
    """What a file is quantized with.

    Args:
        images: uint8[N, side, side], whose activations set the scales.
        labeled: uint8[M, side, side], which the loss of AUROC is measured on; None for no labels.
        rows: their labels.
        described: the labeled images, in words.
        space: what the model predicts; the loss is that of the findings which `rows` label.
    """

    images: NDArray[np.uint8]
    labeled: NDArray[np.uint8] | None = None
    rows: Rows | None = None
    described: str | None = None
    space: LabelSpace | None = None

    def accepted(self, path: Path, quantized: Path, file: ExportedFile) -> ExportedFile:
        """The record of the quantized file, with its difference of AUROC from the file at `path`.

        Raises:
            ChexError: it loses more than `LARGEST_LOSS`, or without labels, changes a probability too much.
        """
        if self.labeled is None or self.rows is None:
            if not file.largest_difference <= LARGEST_CHANGE:
                raise ChexError(
                    f"int8 changes a probability by {file.largest_difference:.2g}, more than {LARGEST_CHANGE:g}; "
                    "name shards with --data to quantize and measure with radiographs of its data set"
                )
            return file
        rows, space = self.rows, self.space
        raw = [_raw(of, self.labeled) for of in (path, quantized)]
        before, after = (measure(labeled(rows, probabilities, space)).macro_auroc for probabilities in raw)
        if before is None or after is None:
            raise UsageError(f"{self.described} have too few cases of each finding to measure an AUROC")
        if not before - after <= LARGEST_LOSS:
            raise ChexError(
                f"int8 loses {before - after:.4f} of macro AUROC ({after:.4f} instead of {before:.4f} on "
                f"{self.described}), more than {LARGEST_LOSS}; use the file in float32"
            )
        return file.model_copy(update={"auroc_difference": after - before, "auroc_on": self.described})


def calibrating_on(model: Reference, data: Reference, side: int, space: LabelSpace) -> Calibrating:
    """Validation images of shards to quantize with, and test images (validation where there are none) to measure on.

    Args:
        model: the published model, whose split is used.
        data: shards.
        side: that the model resizes originals to first.
        space: what the model predicts.

    Raises:
        UsageError: the shards label none of its findings, or do not fit the split.
        ChexError: they cannot be read.
    """
    source = find_shards(data)
    if not set(space.findings) & set(source.label_space.findings):
        raise UsageError(
            f"{model} predicts {', '.join(space.findings)}, but the labels of {source.name} are "
            f"{', '.join(source.label_space.findings)}; name shards that share a finding"
        )
    choice = split_for([str(model)], [model], None, source.identity).fitting(source.manifest)
    rows = read_rows(source.shards, choice, source.label_space)
    measured = "test" if len(rows.get("test", ())) else "validation"
    spread = _spread(rows["validation"], _CALIBRATION_IMAGES)
    chosen = _spread(rows[measured], _MOST_LABELED)
    described = f"{len(chosen):,} images of the {measured} split of {data.name if isinstance(data, Path) else data}"
    return Calibrating(_images(source, spread, side), _images(source, chosen, side), chosen, described, space)


def _spread(rows: Rows, most: int) -> Rows:
    """At most `most` rows, at equal distances."""
    if not len(rows):
        raise UsageError("the shards have no validation images by the model's split, which int8 is calibrated on")
    return rows.take(np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(np.int64)))


def _images(source: ShardSource, rows: Rows, side: int) -> NDArray[np.uint8]:
    plain = Preprocessing(image_size=side, clahe=ClaheConfig(enabled=False, clip_limit=1.0, tiles=8))
    return decoded_images(source, rows, plain)


def _raw(path: Path, images: NDArray[np.uint8]) -> Floats:
    session, options = open_session(path), without_maps()
    parts = [
        session.run(["raw"], {INPUT: images[first : first + _BATCH]}, options)[0]
        for first in range(0, len(images), _BATCH)
    ]
    return np.concatenate(parts).astype(np.float64)


def quantize(path: Path, quantized: Path, images: NDArray[np.uint8], scratch: Path) -> None:
    """Write the file at `path` in int8.

    Args:
        path: in float32.
        quantized: the new file.
        images: uint8[N, side, side], whose activations set the scales.
        scratch: an empty folder for files on the way.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # it has no types
        """The images one by one."""

        def __init__(self) -> None:
            self._left = iter(images[:_CALIBRATION_IMAGES])

        def get_next(self) -> dict[str, Any] | None:
            image = next(self._left, None)
            return None if image is None else {INPUT: image[None]}

    cut, prepared = scratch / "cut.onnx", scratch / "prepared.onnx"
    outputs = {output.name for output in onnx.load(path).graph.output} - {"maps"}
    cut.write_bytes(without_other_outputs(path.read_bytes(), outputs))
    quant_pre_process(cut, prepared, skip_symbolic_shape=True)
    model = onnx.load(prepared)
    quantize_static(
        model,
        quantized,
        Reader(),
        quant_format=QuantFormat.QDQ,
        # 7 bits: products of 8-bit weights overflow the 16-bit sums of CPUs without VNNI.
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=list(_QUANTIZED),
        nodes_to_quantize=sorted(_of_network(model)),
    )


def _of_network(model: Any) -> Iterator[str]:
    """The names of the nodes between the equalized images and the raw probabilities."""
    graph = model.graph
    images = [name for name in _values(graph) if name.startswith(EQUALIZED)]
    if not images:
        raise ChexError("onnxruntime's preparation for int8 removed the network's input; use the file in float32")
    before = _ancestors(graph, images)
    network = _ancestors(graph, ["raw"]) - before
    return (node.name for node in graph.node if node.op_type in _QUANTIZED and node.output[0] in network)


def _values(graph: Any) -> set[str]:
    return {name for node in graph.node for name in node.output}


def _ancestors(graph: Any, names: Collection[str]) -> set[str]:
    """The values that some values are computed from, and these."""
    makers = {name: node for node in graph.node for name in node.output}
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += list(makers[name].input) if name in makers else []
    return found
