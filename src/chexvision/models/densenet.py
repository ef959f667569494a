"""DenseNet-121: Huang et al., "Densely Connected Convolutional Networks", CVPR 2017."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.densenet import _DenseLayer

from chexvision.errors import ChexError


def densenet121(pretrained: bool) -> nn.Module:
    """torchvision's DenseNet-121 up to its last feature map: float[B, 3, H, W] to float[B, 1024, H/32, W/32].

    Raises:
        ChexError: the ImageNet weights could not be downloaded.
    """
    weights = torchvision.models.DenseNet121_Weights.IMAGENET1K_V1 if pretrained else None
    try:
        network = torchvision.models.densenet121(weights=weights)
    except (OSError, RuntimeError) as error:
        if weights is None:
            raise
        raise ChexError(
            f"the ImageNet weights could not be downloaded from {weights.url} ({error}); check the network, "
            f"put the file into {torch.hub.get_dir()}/checkpoints, or train with --set model.pretrained=false"
        ) from None
    features = cast(nn.Sequential, network.features)
    for name, block in list(features.named_children()):
        if name.startswith("denseblock"):
            features.add_module(name, DenseBlock(dict(block.named_children())))  # keeps its place among the others
    # torchvision applies this ReLU in place in its forward, which breaks gradients taken at the feature map.
    features.add_module("relu5", nn.ReLU(inplace=False))
    return features


class DenseBlock(nn.ModuleDict):
    """torchvision's dense block, its layers and names, but no joined feature maps are kept for the backward pass.

    Each layer normalises all earlier maps joined, and torchvision keeps every one of these copies: their size grows
    with the square of the number of layers. Here they are joined anew when the backward pass needs them, which takes
    a copy and no arithmetic; the gradients are the same bits. Pleiss et al., "Memory-Efficient Implementation of
    DenseNets", 2017, go further and compute the normalisation again as well.
    """

    def forward(self, x: Tensor) -> Tensor:
        """float[B, C, H, W] to float[B, C + 32 * layers, H, W]."""
        maps = [x]
        for layer in cast(Iterable[_DenseLayer], self.values()):
            hidden = layer.conv1(layer.relu1(_normalised(layer.norm1, maps)))
            maps.append(layer.conv2(layer.relu2(layer.norm2(hidden))))
        return torch.cat(maps, 1)


def _normalised(norm: nn.Module, maps: list[Tensor]) -> Tensor:
    joined = torch.cat(maps, 1)
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():  # compilers choose themselves what to keep
        result: Tensor = norm(joined)
        return result
    pieces = [one.detach() for one in maps]
    place, shape = joined.data_ptr(), joined.shape

    def pack(saved: Tensor) -> Tensor | list[Tensor]:
        return pieces if saved.data_ptr() == place and saved.shape == shape else saved

    def unpack(kept: Tensor | list[Tensor]) -> Tensor:
        return kept if isinstance(kept, Tensor) else torch.cat(kept, 1)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        normalised: Tensor = norm(joined)
    return normalised
