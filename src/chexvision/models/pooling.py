"""From the last features of a network to the one vector per image that the heads sit on."""

from __future__ import annotations

from itertools import chain
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from chexvision.config.recipe import Pooling
from chexvision.errors import ChexError
from chexvision.models.backbone import Backbone

_HIDDEN = 128  # of the attention, L in the paper's experiments on histopathology


class FeaturePooling(nn.Module):
    """Pools the features of one backbone.

    "attention" is the weighted mean over positions of Ilse et al., "Attention-based Deep Multiple Instance Learning",
    ICML 2018: the weights are softmax(w · tanh(V x)).

    Args:
        backbone: whose features are pooled; not a part of this module.
        kind: see `chexvision.config.recipe.ModelConfig`.
        image_size: side of images that the backbone takes; widths of features are read from a pass on the meta
            device, which neither computes nor allocates anything.

    Attributes:
        channels: of the result.

    Raises:
        ChexError: `kind` is "token" and the network has no class token.
    """

    def __init__(self, backbone: Backbone, kind: Pooling, image_size: int) -> None:
        super().__init__()
        self.kind = kind
        self.channels = backbone.channels
        if kind == "network":
            return
        tensors = chain(backbone.named_parameters(), backbone.named_buffers())
        image = torch.empty(1, 3, image_size, image_size, device="meta")
        with torch.no_grad():
            backbone.eval()
            features = functional_call(backbone, {name: one.to("meta") for name, one in tensors}, (image,))
            backbone.train()
            pooled = backbone.class_token(features) if kind == "token" else backbone.as_map(features)
        if pooled is None:
            raise ChexError("the network has no class token; set model.pooling to network, average or attention")
        self.channels = pooled.shape[1]
        if kind == "attention":
            self.scores = nn.Sequential(nn.Linear(self.channels, _HIDDEN), nn.Tanh(), nn.Linear(_HIDDEN, 1))

    def forward(self, backbone: Backbone, features: Tensor) -> Tensor:
        """The result of `backbone` as float[B, channels]."""
        if self.kind == "network":
            return backbone.pool(features)
        if self.kind == "token":
            return cast(Tensor, backbone.class_token(features))  # checked at the start
        positions = backbone.as_map(features).flatten(2).transpose(1, 2)
        if self.kind == "average":
            return positions.mean(dim=1)
        weighted: Tensor = (self.scores(positions).softmax(dim=1) * positions).sum(dim=1)
        return weighted
