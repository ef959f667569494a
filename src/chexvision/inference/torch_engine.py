"""A published model or ensemble, computed by torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from chexvision.artifact.load import Ensemble
from chexvision.config.test_time import Tta
from chexvision.inference.device import DeviceName, Precision, choose_computation, choose_kernels, retain_freed_memory
from chexvision.inference.member_maps import explain_members
from chexvision.inference.tta import views_of
from chexvision.models.classifier import CheXVision
from chexvision.models.network_engine import NetworkEngine
from chexvision.predict.engine import HeatMaps, Prepared
from chexvision.predict.input_check import InputCheck


class TorchEngine(NetworkEngine):
    """An engine of any model, on any device, with test-time augmentation.

    Args:
        model: from `chexvision.artifact.load`; moved to the device.
        device: "auto" is the first of cuda, mps and cpu that there is.
        precision: "auto" is faster, "fp32" the same on every machine.
        tta: the test-time augmentation; probabilities are averaged over its views.
        check: the input check that the model was published with.

    Raises:
        UsageError: there is no such device here, or it cannot compute in `precision`.
    """

    def __init__(
        self,
        model: Ensemble | CheXVision,
        device: DeviceName = "auto",
        precision: Precision = "fp32",
        tta: Tta = "none",
        check: InputCheck | None = None,
    ) -> None:
        computation = choose_computation(device, precision)
        ensemble = model if isinstance(model, Ensemble) else Ensemble((model,))
        if computation.device.type == "cpu":
            retain_freed_memory()
        choose_kernels(computation.precision)
        self._ensemble = ensemble.to(computation.device)
        super().__init__(
            ensemble.members,
            ensemble.weights,
            [views_of(tta, any_size=member.backbone.any_size) for member in ensemble.members],
            str(computation),
            computation.autocast,
            check,
        )

    def explain(self, batch: Sequence[Prepared], outputs: NDArray[np.int64]) -> HeatMaps:
        """Explain the outputs int64[B, M] of each image, without test-time augmentation.

        Raises:
            ChexError: a member computes something that is not a number.
        """
        return explain_members(self._ensemble, self.pixels(batch), outputs)[1]
