"""An exported model, computed by OpenVINO on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from chexvision.layout import cache_dir
from chexvision.parallel import usable_cores
from chexvision.runtime.exported import Exported
from chexvision.runtime.exported_engine import Arrays, ExportedEngine


class OpenVinoEngine(ExportedEngine):
    """See `ExportedEngine`. What OpenVINO compiles for this processor is kept in the cache for the next start.

    Args:
        exported: the file.

    Raises:
        ChexError: the file is damaged, or needs what the runtime does not have.
    """

    def __init__(self, exported: Exported) -> None:
        super().__init__(exported, f"OpenVINO on cpu, {'int8' if exported.quantized else 'fp32'}")
        self._compiled: dict[tuple[str, ...], Any] = {}
        with self.reported():
            # By name: the readers of other formats are not tried on it.
            reader = openvino.frontend.FrontEndManager().load_by_framework("onnx")
            self._model = reader.convert(reader.load(str(exported.path)))
        self._compile(self.predicted)

    def _inputs(self) -> dict[str, str]:
        return {one.any_name: one.element_type.to_string() for one in self._model.inputs}

    def _outputs(self) -> dict[str, Any]:
        return {name: output for output in self._model.outputs for name in output.names}

    def _compile(self, names: tuple[str, ...]) -> None:
        """Compile what computes these outputs and no others."""
        given, side = self._outputs(), self.exported.info.side
        self.check_signature(self._inputs(), given.keys(), names)
        with self.reported():
            part = openvino.Model([given[name].node for name in names], self._model.get_parameters())
            part.reshape([-1, side, side])
            self._compiled[names] = openvino.Core().compile_model(
                part,
                "CPU",
                {
                    "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, on all cores
                    "INFERENCE_NUM_THREADS": usable_cores(),
                    "INFERENCE_PRECISION_HINT": "f32",  # bf16 is the default of processors that have it
                    "CACHE_DIR": str(cache_dir() / "openvino"),
                },
            )

    def _compute(self, images: NDArray[np.uint8], names: tuple[str, ...]) -> Arrays:
        if names not in self._compiled:
            self._compile(names)
        with self.reported():
            found = self._compiled[names](images, share_inputs=True)
        return {name: np.array(found[i], np.float32) for i, name in enumerate(names)}
