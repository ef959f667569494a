"""What engines of exported models have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from chexvision.errors import ChexError
from chexvision.images.radiograph import Grey, resize_area
from chexvision.labels import LabelSpace
from chexvision.predict.engine import HeatMaps, Outputs, Prepared, finite
from chexvision.runtime.export_info import INPUT
from chexvision.runtime.exported import Exported

_UINT8 = ("tensor(uint8)", "u8")  # as onnxruntime and OpenVINO name it
_RAW, _CHECKS, _MAPS = "raw", "checks", "maps"  # see `chexvision.runtime.export_info.ExportInfo`

# Images per call of the runtime, whatever the batch: its memory stays that of so many. More are not faster on a CPU.
_MOST = 8

Arrays: TypeAlias = dict[str, NDArray[np.float32]]


class ExportedEngine(ABC):
    """An engine of an ONNX file, as an `chexvision.predict.engine.Engine`.

    Args:
        exported: the file.
        name: what computes it and where.
    """

    def __init__(self, exported: Exported, name: str) -> None:
        self.exported = exported
        self._name = name

    @property
    def name(self) -> str:
        """What computes it and where."""
        return self._name

    @property
    def label_space(self) -> LabelSpace:
        """What it predicts."""
        return self.exported.info.label_space

    @property
    def predicted(self) -> tuple[str, ...]:
        """The outputs of the graph that a prediction needs."""
        return (_RAW, _CHECKS) if self.exported.info.checks else (_RAW,)

    def prepare(self, pixels: Grey) -> Prepared:
        """An original resized to the side that the graph resizes images to first."""
        return (resize_area(pixels, self.exported.info.side),)

    def run(self, batch: Sequence[Prepared]) -> Outputs:
        """Classify a batch.

        Raises:
            ChexError: the model computes something that is not a number, or cannot be computed.
        """
        found = self._all(batch, self.predicted)
        return Outputs(finite(found[_RAW]), finite(found[_CHECKS]) if _CHECKS in found else None)

    def explain(self, batch: Sequence[Prepared], outputs: NDArray[np.int64]) -> HeatMaps:
        """Explain the outputs int64[B, M] of each image.

        Raises:
            ChexError: the file gives no maps, or the model computes something that is not a number.
        """
        method = self.exported.info.map_method
        if method is None:
            raise ChexError(
                f"the exported model of {self.exported.name} gives no maps; use the engine torch, which explains it"
            )
        maps = self._all(batch, (_MAPS,))[_MAPS]
        finite(maps)
        return HeatMaps(np.take_along_axis(maps, outputs[:, :, None, None], axis=1), outputs, method)

    def _all(self, batch: Sequence[Prepared], names: tuple[str, ...]) -> Arrays:
        """Outputs of the graph for a batch."""
        info, parts = self.exported.info, []
        rows = {_RAW: len(self.label_space.outputs), _CHECKS: len(info.checks), _MAPS: len(self.label_space.outputs)}
        for first in range(0, len(batch), _MOST):
            images = np.stack([image for (image,) in batch[first : first + _MOST]])
            part = self._compute(images, names)
            for name, array in part.items():
                if array.shape[:2] != (len(images), rows[name]) or array.ndim != (4 if name == _MAPS else 2):
                    raise self.unusable(f"its output {name} has the shape {list(array.shape)}")
            parts.append(part)
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    @abstractmethod
    def _compute(self, images: NDArray[np.uint8], names: tuple[str, ...]) -> Arrays:
        """Outputs of the graph for uint8[B, S, S]."""

    def check_signature(self, inputs: dict[str, str], outputs: Collection[str], names: Sequence[str]) -> None:
        """Check that a graph takes images, and nothing else, and gives some outputs.

        Args:
            inputs: of the graph, types by name.
            outputs: of the graph.
            names: what is needed of these.

        Raises:
            ChexError: it does not.
        """
        if list(inputs) != [INPUT] or inputs[INPUT] not in _UINT8:
            given = ", ".join(f"{name} {kind}" for name, kind in inputs.items()) or "none"
            raise self.unusable(f"its inputs are {given}; expected {INPUT} of uint8")
        for name in names:
            if name not in outputs:
                raise self.unusable(f"it has no output {name}")

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Turn what a runtime raises, whose errors have no common type, into an error of one line."""
        try:
            yield
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            # The last lines of OpenVINO tell what is wrong, those before where in its source.
            raise self.unusable((lines[-1] if lines else type(error).__name__)[:300]) from error

    def unusable(self, why: str) -> ChexError:
        """The error of a file that cannot be computed."""
        return ChexError(
            f"{self.exported.path} cannot be used: {why}; export the model again, or use the engine torch"
        )
