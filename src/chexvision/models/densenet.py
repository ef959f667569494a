"""DenseNet-121: Huang et al., "Densely Connected Convolutional Networks", CVPR 2017."""

from __future__ import annotations

from typing import cast

import torch
import torchvision
from torch import nn

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
            f"put the file into {torch.hub.get_dir()}/checkpoints, or train with --set model.weights=none"
        ) from None
    features = cast(nn.Sequential, network.features)
    # torchvision applies this ReLU in place in its forward, which breaks gradients taken at the feature map.
    features.add_module("relu5", nn.ReLU(inplace=False))
    return features
