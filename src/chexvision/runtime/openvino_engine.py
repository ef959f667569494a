"""An exported model, computed by OpenVINO on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import openvino
from numpy.typing import NDArray

from chexvision.layout import cache_dir
from chexvision.parallel import usable_cores
from chexvision.runtime.export_info import INPUT
from chexvision.runtime.exported import Exported
from chexvision.runtime.exported_engine import Arrays, ExportedEngine

# Values of the graph between which a network computes; those of an ensemble's members are numbered.
_EQUALIZED, _FEATURES = "equalized", "features"

# Of a raw probability, between bf16 and fp32. Engines may differ by 0.01 on the same radiograph.
_TOLERANCE = 0.005

_Compute: TypeAlias = Callable[[NDArray[np.uint8]], Arrays]


class OpenVinoEngine(ExportedEngine):
    """See `ExportedEngine`. What OpenVINO compiles for this processor is kept in the cache for the next start.

    In bf16 the networks are computed, from the equalized image to the pooled features; what is before and after them,
    and maps, are in fp32.

    Args:
        exported: the file.
        precision: "fp32"; "auto" is bf16 where the processor has it and the result stays within 0.005 of fp32 on
            images made for this. `name` says which.

    Raises:
        ChexError: the file is damaged, or needs what the runtime does not have.
    """

    def __init__(self, exported: Exported, precision: Literal["fp32", "auto"] = "fp32") -> None:
        super().__init__(exported, f"OpenVINO on cpu, {'int8' if exported.quantized else 'fp32'}")
        self._core = openvino.Core()
        with self.reported():
            # By name: the readers of other formats are not tried on it.
            reader = openvino.frontend.FrontEndManager().load_by_framework("onnx")
            self._model = reader.convert(reader.load(str(exported.path)))
        self._given = _values(self._model).keys()
        self._computed: dict[tuple[str, ...], _Compute] = {self.predicted: self._exact(self.predicted)}
        if precision == "auto" and not exported.quantized and self._has_bf16():
            faster = self._in_bf16(self.predicted)
            if self._agrees(faster):
                self._computed[self.predicted] = faster
                self._name = "OpenVINO on cpu, bf16"

    def _compute(self, images: NDArray[np.uint8], names: tuple[str, ...]) -> Arrays:
        if names not in self._computed:
            self._computed[names] = self._exact(names)
        with self.reported():
            return self._computed[names](images)

    def _exact(self, names: tuple[str, ...]) -> _Compute:
        """Computes these outputs, and no others, in fp32."""
        inputs = {one.any_name: one.element_type.to_string() for one in self._model.inputs}
        self.check_signature(inputs, self._given, names)
        compiled = self._compiled([INPUT], names, "f32")
        return lambda images: compiled({INPUT: images})

    def _has_bf16(self) -> bool:
        named = _EQUALIZED in self._given and _FEATURES in self._given
        return named and "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")

    def _in_bf16(self, names: tuple[str, ...]) -> _Compute:
        """Computes these outputs with the networks in bf16."""
        equalized, features = (
            sorted(name for name in self._given if name == kind or name.startswith(f"{kind}_"))
            for kind in (_EQUALIZED, _FEATURES)
        )
        prepare = self._compiled([INPUT], equalized, "f32")
        networks = self._compiled(equalized, features, "bf16")
        heads = self._compiled([*equalized, *features], names, "f32")

        def compute(images: NDArray[np.uint8]) -> Arrays:
            prepared = prepare({INPUT: images})
            return heads({**prepared, **networks(prepared)})

        return compute

    def _agrees(self, compute: _Compute) -> bool:
        """Whether raw probabilities are within `_TOLERANCE` of those in fp32, on smooth images with some noise."""
        rng, side = np.random.default_rng(0), self.exported.info.side
        shades = [
            cv2.resize(rng.uniform(20, 235, (6, 6)), (side, side), interpolation=cv2.INTER_CUBIC) for _ in "1234"
        ]
        images = np.clip(np.stack(shades) + rng.normal(0, 5, (4, side, side)), 0, 255).astype(np.uint8)
        with self.reported():
            exact, found = (of(images)[self.predicted[0]] for of in (self._computed[self.predicted], compute))
        return bool(np.abs(exact - found).max() <= _TOLERANCE)

    def _compiled(self, inputs: Sequence[str], outputs: Sequence[str], precision: str) -> Callable[[Any], Arrays]:
        """Computes some values of the graph from others."""
        with self.reported():
            compiled = self._core.compile_model(
                self._part(inputs, outputs),
                "CPU",
                {
                    "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, on all cores
                    "INFERENCE_NUM_THREADS": usable_cores(),
                    "INFERENCE_PRECISION_HINT": precision,  # the default is bf16 where the processor has it
                    "CACHE_DIR": str(cache_dir() / "openvino"),
                },
            )

        def compute(given: Arrays) -> Arrays:
            found = compiled([given[name] for name in inputs], share_inputs=True)
            return {name: np.array(found[i], np.float32) for i, name in enumerate(outputs)}

        return compute

    def _part(self, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
        values = _values(self._model.clone())
        results = [openvino.opset13.result(values[name]) for name in outputs]
        parameters = []
        for name in inputs:
            parameter = openvino.opset13.parameter(values[name].get_partial_shape(), values[name].get_element_type())
            for target in values[name].get_target_inputs():
                target.replace_source_output(parameter.output(0))
            parameters.append(parameter)
        part = openvino.Model(results, parameters)
        if list(inputs) == [INPUT]:
            part.reshape([-1, self.exported.info.side, self.exported.info.side])
        return part


def _values(model: Any) -> dict[str, Any]:
    """The outputs of a model's nodes by name."""
    # A result has the name of what it takes, which comes before it.
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() != "Result"]
    return {name: one for node in nodes for one in node.outputs() for name in one.get_names()}
