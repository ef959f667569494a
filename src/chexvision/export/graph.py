"""A published model or ensemble as one graph: originals in, calibrated probabilities and maps out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chexvision.export.check_steps import CheckSteps
from chexvision.export.image_steps import ImageSteps
from chexvision.export.traced import TracedNetwork
from chexvision.metrics.calibration import SMALLEST, Calibration, Curve


class ExportedGraph(nn.Module):
    """What ``onnx/model.onnx`` computes; see `chexvision.runtime.export_info.ExportInfo`.

    Args:
        steps: prepare the images of each member; all resize to the same side first.
        networks: of the members.
        weights: of the members.
        names: of the outputs.
        calibration: of their mean.
        check: of the first member's images and features; None for none.

    Attributes:
        outputs: names of what `forward` returns, before the equalized images and the features of each member.
    """

    def __init__(
        self,
        steps: Sequence[ImageSteps],
        networks: Sequence[TracedNetwork],
        weights: Sequence[float],
        names: tuple[str, ...],
        calibration: Calibration | None,
        check: CheckSteps | None,
    ) -> None:
        super().__init__()
        self.side = steps[0].side
        self.steps = nn.ModuleList(steps)
        self.networks = nn.ModuleList(networks)
        self.weights = tuple(weights)
        self.calibrated = Calibrated(names, calibration)
        self.check = check
        grids = [network.grid for network in networks]
        self.grid = None if None in grids else max(grid for grid in grids if grid is not None)
        present = {"checks": check is not None, "maps": self.grid is not None}
        self.outputs = ["probabilities", "raw", *(name for name, there in present.items() if there)]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """uint8[B, H, W] to the tensors `outputs`, then each member's equalized images, then each one's features."""
        images = [steps(image) for steps in self.steps]
        parts = [network(of) for network, of in zip(self.networks, images, strict=True)]
        raw = self._mean([logits.sigmoid() for logits, *_ in parts])
        logits = parts[0][0].clamp(-_LARGEST, _LARGEST) if len(parts) == 1 else _logit(raw)
        found = [self.calibrated(logits, raw), raw]
        if self.check is not None:
            found.append(self.check(images[0], parts[0][1]))
        if self.grid is not None:
            found.append(self._mean([self._enlarged(maps) for _, _, maps in parts]))
        return (*found, *images, *(features for _, features, *_ in parts))

    def _mean(self, values: Sequence[Tensor]) -> Tensor:
        if len(values) == 1:
            return values[0]
        return torch.stack([weight * of for weight, of in zip(self.weights, values, strict=True)]).sum(dim=0)

    def _enlarged(self, maps: Tensor) -> Tensor:
        if tuple(maps.shape[2:]) == self.grid:
            return maps
        return F.interpolate(maps, size=self.grid, mode="bilinear", align_corners=False)


_LARGEST = 16.118095  # the logit of 1 - SMALLEST


def _logit(probabilities: Tensor) -> Tensor:
    p = probabilities.clamp(SMALLEST, 1 - SMALLEST)
    return p.log() - (-p).log1p()


class Calibrated(nn.Module):
    """`Calibration.apply` in float32.

    Args:
        names: of the outputs.
        calibration: None leaves probabilities as they are.
    """

    slope: Tensor
    intercept: Tensor
    fixed: Tensor
    start: Tensor
    left: Tensor
    width: Tensor
    ramp: Tensor
    jump: Tensor

    def __init__(self, names: tuple[str, ...], calibration: Calibration | None) -> None:
        super().__init__()
        curves = [calibration.curves.get(name) if calibration else None for name in names]
        self.lines = any(curve is not None and curve.slope is not None for curve in curves)
        self.knots = any(curve is not None and curve.slope is None for curve in curves)
        if self.lines:
            values = [(curve.slope or 0.0, curve.intercept or 0.0) if curve else (1.0, 0.0) for curve in curves]
            self.register_buffer("slope", torch.tensor([slope for slope, _ in values]), persistent=False)
            self.register_buffer("intercept", torch.tensor([shift for _, shift in values]), persistent=False)
            self.register_buffer("fixed", torch.tensor([curve is None for curve in curves]), persistent=False)
        elif self.knots:
            self._register_knots([curve or Curve(x=(0.0, 1.0), y=(0.0, 1.0)) for curve in curves])

    def _register_knots(self, curves: Sequence[Curve]) -> None:
        """Each curve as a start and a sum of ramps; short ones are filled up with ramps that add nothing."""
        most = max(len(curve.x) for curve in curves) - 1
        start = torch.tensor([curve.y[0] for curve in curves])
        left, width, rise = torch.zeros(3, len(curves), max(most, 1), dtype=torch.float64)
        for i, curve in enumerate(curves):
            x, y = (torch.tensor(of, dtype=torch.float64) for of in (curve.x, curve.y))
            count = len(x) - 1
            left[i, :count], width[i, :count], rise[i, :count] = x[:-1], x.diff(), y.diff()
        jumps = width == 0
        self.register_buffer("start", start, persistent=False)
        self.register_buffer("left", left.float(), persistent=False)
        self.register_buffer("width", torch.where(jumps, 1, width).float(), persistent=False)
        self.register_buffer("ramp", torch.where(jumps, 0, rise).float(), persistent=False)
        self.register_buffer("jump", torch.where(jumps, rise, 0).float(), persistent=False)

    def forward(self, logits: Tensor, raw: Tensor) -> Tensor:
        """The calibrated probabilities float[B, K + 1] of logits and of the probabilities themselves."""
        if self.lines:
            return torch.where(self.fixed, raw, (logits * self.slope + self.intercept).sigmoid())
        if not self.knots:
            return raw.clone()
        beyond = raw[..., None] - self.left
        parts = (beyond / self.width).clamp(0, 1) * self.ramp + (beyond >= 0) * self.jump
        return (self.start + parts.sum(dim=-1)).clamp(0, 1)
