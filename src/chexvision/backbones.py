"""The backbones by name. A table without torch, so that a laptop can check a recipe."""

from __future__ import annotations

import re
from dataclasses import dataclass

TIMM = "timm/"
_TIMM_NAME = re.compile(r"timm/[a-z0-9_]+(\.[a-z0-9_]+)?")


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network that turns images float[B, 3, H, W] into a feature map float[B, channels, h, w].

    Args:
        builder: ``module:function``; the function takes ``pretrained: bool`` and returns the network.
        channels: of the feature map.
        has_pretrained: whether `builder` can load ImageNet weights.
    """

    builder: str
    channels: int
    has_pretrained: bool


BACKBONES: dict[str, Backbone] = {
    "densenet121": Backbone("chexvision.models.densenet:densenet121", 1024, has_pretrained=True),
    "se_resnet34": Backbone("chexvision.models.se_resnet:se_resnet34", 512, has_pretrained=False),
}


def check_backbone(name: str) -> None:
    """Check that `name` is in the table, or may be a network of timm; whether timm has it is not checked.

    Raises:
        ValueError: it is neither.
    """
    if name not in BACKBONES and not _TIMM_NAME.fullmatch(name):
        known = ", ".join(sorted(BACKBONES))
        raise ValueError(
            f"unknown backbone {name!r}; known are {known} and timm/<model>[.<tag>]; update chexvision for newer ones"
        )


def has_imagenet_weights(name: str) -> bool:
    """Whether the network `name` is published with weights of ImageNet."""
    return BACKBONES[name].has_pretrained if name in BACKBONES else name.startswith(TIMM)
