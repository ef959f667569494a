"""An exported model, computed by onnxruntime on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from chexvision.parallel import usable_cores
from chexvision.runtime.export_info import INPUT
from chexvision.runtime.exported import Exported
from chexvision.runtime.exported_engine import Arrays, ExportedEngine
from chexvision.runtime.onnx_cut import without_other_outputs

_SILENT = 4  # of the levels of severity: the runtime prints what it raises as well
_FOLDER = "session.model_external_initializers_file_folder_path"


class OnnxEngine(ExportedEngine):
    """See `ExportedEngine`; a GPU is not used.

    Args:
        exported: the file.

    Raises:
        ChexError: the file is damaged, or needs what the runtime does not have.
    """

    def __init__(self, exported: Exported) -> None:
        super().__init__(exported, f"onnxruntime on cpu, {'int8' if exported.quantized else 'fp32'}")
        self._sessions: dict[tuple[str, ...], Any] = {}
        self._load(self.predicted)

    def _load(self, names: tuple[str, ...]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = usable_cores()
        # Waiting threads would take the cores from those that decode the next images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = _SILENT
        # Where weights outside the file may be; the default is the working folder.
        options.add_session_config_entry(_FOLDER, str(self.exported.path.parent))
        content = self.exported.content()
        with self.reported():
            model = without_other_outputs(content, names)
            session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.check_signature(
            {one.name: one.type for one in session.get_inputs()}, {one.name for one in session.get_outputs()}, names
        )
        self._sessions[names] = session

    def _compute(self, images: NDArray[np.uint8], names: tuple[str, ...]) -> Arrays:
        if names not in self._sessions:
            self._load(names)
        options = onnxruntime.RunOptions()
        options.log_severity_level = _SILENT
        with self.reported():
            found = self._sessions[names].run(list(names), {INPUT: images}, options)
        return dict(zip(names, found, strict=True))
