"""A network by its name."""

from __future__ import annotations

from importlib import import_module

from chexvision.backbones import facts
from chexvision.models.backbone import Backbone
from chexvision.models.timm_backbone import timm_backbone


def build_backbone(name: str, image_size: int, drop_path: float) -> Backbone:
    """The network `name` of the registry, or of timm, with random weights.

    Raises:
        ChexError: there is no such network, or it does not take the image size or the drop path.
    """
    known = facts(name)
    if not known.builder:
        return timm_backbone(known.timm, known.arguments, image_size, drop_path)
    module, _, function = known.builder.partition(":")
    network = getattr(import_module(module), function)(image_size, drop_path)
    if not isinstance(network, Backbone):
        raise TypeError(f"{known.builder} built {type(network).__name__}, not a Backbone")
    return network
