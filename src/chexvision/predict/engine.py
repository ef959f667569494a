"""What computes a model: torch, onnxruntime or OpenVINO behind one interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from chexvision.errors import ChexError
from chexvision.images.radiograph import Grey
from chexvision.labels import LabelSpace
from chexvision.metrics.ranking import Floats

Prepared: TypeAlias = tuple[Grey, ...]  # one image, as each member of an ensemble takes it: uint8[S, S]


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a model computes for B images.

    Args:
        probabilities: float64[B, K + 1], raw, of `LabelSpace.outputs`; of an ensemble the weighted mean.
        checks: float64[B, T], of the input check's tests in their order; None of a model without one.
    """

    probabilities: Floats
    checks: Floats | None = None


@dataclass(frozen=True, slots=True)
class HeatMaps:
    """Maps of the regions that raise some outputs of B images.

    Args:
        values: float32[B, M, h, w], at least 0, in units of the logit, not normalized: values of different outputs
            and images can be compared.
        outputs: int64[B, M], which output each map explains.
        method: "Grad-CAM", "LayerCAM", or both where members of an ensemble differ.
    """

    values: NDArray[np.float32]
    outputs: NDArray[np.int64]
    method: str


class Engine(Protocol):
    """Computes one published model or ensemble."""

    @property
    def name(self) -> str:
        """What computes it and where, for instance "onnxruntime on cpu"."""

    @property
    def label_space(self) -> LabelSpace:
        """What it predicts."""

    def prepare(self, pixels: Grey) -> Prepared:
        """An original uint8[H, W] as `run` takes it. Called in several threads."""

    def run(self, batch: Sequence[Prepared]) -> Outputs:
        """Classify a batch.

        Raises:
            ChexError: the model computes something that is not a number.
        """

    def explain(self, batch: Sequence[Prepared], outputs: NDArray[np.int64]) -> HeatMaps:
        """Explain the outputs int64[B, M] of each image.

        Raises:
            ChexError: this engine cannot explain the model; the message says what can.
        """


def finite(probabilities: NDArray[np.floating]) -> Floats:
    """A model's probabilities in double precision.

    Raises:
        ChexError: one is not a number.
    """
    if not np.isfinite(probabilities).all():
        raise ChexError("the model's output is not a number; its weights are damaged or did not converge")
    return probabilities.astype(np.float64)
