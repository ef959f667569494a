"""The backbones by name. A table without torch, so that a laptop can check a recipe."""

from __future__ import annotations

from dataclasses import dataclass


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


def backbone_named(name: str) -> Backbone:
    """The backbone `name`.

    Raises:
        ValueError: there is none.
    """
    if name not in BACKBONES:
        known = ", ".join(sorted(BACKBONES))
        raise ValueError(f"unknown backbone {name!r}; known are {known} (a newer chexvision may know more)")
    return BACKBONES[name]
