"""Which regions of an image raise a finding's logit: Grad-CAM, or LayerCAM where the last map is too coarse.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks", ICCV 2017;
Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", IEEE TIP 2021.

Works for every network: a `Backbone` names the modules whose outputs can be explained and turns an output, and its
gradient, into a map. The last features of a vision transformer cannot: its class token does not depend on what the
last block does to the patch tokens, so that their gradient is zero. There, the input of the last attention is
explained.

Written out here because it is a few lines: the libraries for it bring plotting and an OpenCV build that clashes with
the one this package uses, and none chooses the layer by its size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from chexvision.errors import ChexError
from chexvision.inference.recording import exactly, recorded
from chexvision.models.backbone import Backbone
from chexvision.models.classifier import CheXVision

# DenseNet at 224², as the literature uses it, ends in 7x7 cells. A 96² image would end in 3x3, which locates nothing.
FEWEST_CELLS = 7


@dataclass(frozen=True, slots=True)
class Maps:
    """The outputs of a model for B images, and maps of the regions that raise some of them.

    Args:
        probabilities: float[B, K + 1]: the findings in the model's order, then normal/abnormal.
        values: float[B, M, h, w], at least 0, in units of the logit: what a position contributes to it, to
            first order. All are 0 where nothing in the image raises the logit.
        method: "Grad-CAM" or "LayerCAM".
        layer: the module of the backbone that is explained.
    """

    probabilities: Tensor
    values: Tensor
    method: str
    layer: str


@dataclass(frozen=True, slots=True)
class _Layer:
    """The output of a module that can be explained, as the module returned it and as a map float[B, C, h, w]."""

    name: str
    output: Tensor
    features: Tensor

    @property
    def cells(self) -> int:
        return min(self.features.shape[2:])


def explain_batch(model: CheXVision, images: Tensor, outputs: Tensor) -> Maps:
    """Classify images and explain some outputs of each, with one forward pass.

    The last map is explained by Grad-CAM. Where it has fewer than `FEWEST_CELLS` cells per side, LayerCAM explains
    the deepest one of the backbone that has them. Computed in fp32, in evaluation mode; equal inputs give equal maps.

    Args:
        model: left in the mode it was in.
        images: float[B, 3, H, W], as `CheXVision.forward` takes them, on the model's device.
        outputs: int[B, M], which to explain.

    Raises:
        ChexError: the model computes something that is not a number.
    """
    backbone = model.backbone
    with (
        exactly(model, images.device.type),
        torch.enable_grad(),
        recorded(backbone, backbone.explained) as found,
    ):
        # With an input that requires gradients the maps do too, even if the model's weights are frozen.
        last = backbone(images.float().detach().requires_grad_())
        logits = torch.cat(list(model.head(last).values()), dim=1)
        probabilities = logits.detach().sigmoid()
        if not bool(probabilities.isfinite().all()):
            raise ChexError("the model's output is not a number; its weights are damaged or did not converge")
        layers = _used(backbone, found, logits)
        layer = _explained(layers)
        coarse = layer is not layers[-1]
        cams = []
        for column in outputs.to(images.device).T:
            chosen = logits.gather(1, column[:, None]).sum()
            gradient = backbone.as_map(torch.autograd.grad(chosen, layer.output, retain_graph=True)[0])
            weights = gradient.clamp(min=0) if coarse else gradient.mean(dim=(2, 3), keepdim=True)
            cams.append((weights * layer.features).sum(dim=1).clamp(min=0).detach())
    return Maps(probabilities, torch.stack(cams, dim=1), "LayerCAM" if coarse else "Grad-CAM", layer.name)


def _used(backbone: Backbone, outputs: dict[str, object], logits: Tensor) -> list[_Layer]:
    """The layers from the first one to the deepest whose map the logits depend on.

    Which that is depends on the pooling: heads on a class token do not see the last patch tokens, heads on their mean
    do. If no gradient is there at all, all layers.
    """
    layers = [
        _Layer(name, output, backbone.as_map(output))
        for name, output in outputs.items()
        if isinstance(output, Tensor)
    ]
    for count in range(len(layers), 0, -1):
        (gradient,) = torch.autograd.grad(
            logits.sum(), layers[count - 1].output, retain_graph=True, materialize_grads=True
        )
        if bool(backbone.as_map(gradient).any()):
            return layers[:count]
    return layers


def _explained(layers: list[_Layer]) -> _Layer:
    """The deepest layer with enough cells; if there is none, the deepest of those with the most."""
    enough = (layer for layer in reversed(layers) if layer.cells >= FEWEST_CELLS)
    return next(enough, max(reversed(layers), key=lambda layer: layer.cells))
