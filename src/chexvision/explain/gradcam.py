"""Which regions of an image raise a finding's logit: Grad-CAM, or LayerCAM where the last map is too coarse.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks", ICCV 2017;
Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", IEEE TIP 2021.

Written out here because it is a few lines on a feature map that our models return anyway: the libraries for it
bring plotting and an OpenCV build that clashes with the one this package uses, and none chooses the map by its size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chexvision.errors import ChexError
from chexvision.models.backbone import Backbone
from chexvision.models.classifier import CheXVision

# DenseNet at 224², as the literature uses it, ends in 7x7 cells. A 96² image would end in 3x3, which locates nothing.
FEWEST_CELLS = 7


@dataclass(frozen=True, slots=True)
class Maps:
    """The outputs of a model for B images, and maps of the regions that raise them.

    Args:
        probabilities: float[B, K + 1]: the findings in the model's order, then normal/abnormal.
        outputs: int[B, M], which of these each map explains.
        maps: float[B, M, h, w], at least 0; the largest value of a map is 1, or all are 0 where nothing in the
            image raises the logit.
        method: "Grad-CAM" or "LayerCAM".
    """

    probabilities: Tensor
    outputs: Tensor
    maps: Tensor
    method: str


def explain_batch(model: CheXVision, images: Tensor, choose: Callable[[Tensor], Tensor]) -> Maps:
    """Classify images and explain some outputs of each, with one forward pass.

    The last feature map is explained by Grad-CAM. Where it has fewer than `FEWEST_CELLS` cells per side, LayerCAM
    explains the deepest one of the backbone's `explained` that has them. Computed in fp32, in evaluation mode;
    equal inputs give equal maps.

    Args:
        model: any registered backbone; left in the mode it was in.
        images: float[B, 3, H, W], as `CheXVision.forward` takes them, on the model's device.
        choose: which outputs to explain: from probabilities float[B, K + 1] to int[B, M].

    Raises:
        ChexError: the model computes something that is not a number.
    """
    device_type = images.device.type
    with (
        _evaluating(model),
        torch.enable_grad(),
        torch.autocast(device_type, enabled=False),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        _recorded(model.backbone) as recorded,
    ):
        # With an input that requires gradients the maps do too, even if the model's weights are frozen.
        last = model.backbone(images.float().detach().requires_grad_())
        logits = torch.cat(list(model.head(last).values()), dim=1)
        probabilities = logits.detach().sigmoid()
        if not bool(probabilities.isfinite().all()):
            raise ChexError("the model's output is not a number; its weights are damaged or did not converge")
        outputs = choose(probabilities).to(images.device)
        features = _explained([*recorded, last])
        coarse = features is not last
        cams = []
        for column in outputs.T:
            chosen = logits.gather(1, column[:, None]).sum()
            (gradient,) = torch.autograd.grad(chosen, features, retain_graph=True)
            weights = gradient.clamp(min=0) if coarse else gradient.mean(dim=(2, 3), keepdim=True)
            cams.append((weights * features).sum(dim=1).clamp(min=0).detach())
    maps = torch.stack(cams, dim=1)
    peak = maps.amax(dim=(2, 3), keepdim=True)
    maps = torch.where(peak > 0, maps / peak.clamp(min=torch.finfo(maps.dtype).tiny), 0)
    return Maps(probabilities, outputs, maps, "LayerCAM" if coarse else "Grad-CAM")


def enlarge(maps: Tensor, height: int, width: int) -> Tensor:
    """Interpolate float[B, M, h, w] to float[B, M, height, width]."""
    return F.interpolate(maps, size=(height, width), mode="bilinear", align_corners=False)


def _explained(maps: list[Tensor]) -> Tensor:
    """The deepest map with enough cells; the finest one where none has."""
    enough = (features for features in reversed(maps) if min(features.shape[2:]) >= FEWEST_CELLS)
    return next(enough, max(maps, key=lambda features: min(features.shape[2:])))


@contextmanager
def _recorded(backbone: Backbone) -> Iterator[list[Tensor]]:
    """The feature maps that the `explained` modules of `backbone` return while the block runs, in their order."""
    maps: list[Tensor] = []

    def record(_module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            maps.append(output)

    hooks = [child.register_forward_hook(record) for child in map(backbone.get_submodule, backbone.explained)]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
