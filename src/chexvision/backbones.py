"""The backbones by name. A table without torch, so that a laptop can check a recipe."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

TIMM = "timm/"
_TIMM_NAME = re.compile(r"timm/[a-z0-9_]+(\.[a-z0-9_]+)?")
# The mean over the three channels of what ImageNet's images are normalized with.
IMAGENET_MEAN, IMAGENET_STD = 0.449, 0.226


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneFacts:
    """What is known about a network and its published weights without building it; None where it is not.

    Args:
        timm: ``<model>[.<tag>]`` of `timm.create_model`; empty for a network of this package.
        arguments: further arguments of `timm.create_model`.
        builder: of a network of this package, ``module:function``, called with the image size and the drop path.
        mean: of radiographs in [0, 1], as the weights expect it: the average over the channels.
        std: the same.
        has_weights: whether `model.weights: imagenet` exists.
    """

    timm: str = ""
    arguments: Mapping[str, object] = field(default_factory=dict)
    builder: str = ""
    license: str | None = None
    mean: float | None = None
    std: float | None = None
    has_weights: bool = False


BACKBONES: dict[str, BackboneFacts] = {
    "alexnet": BackboneFacts(builder="chexvision.models.alexnet:alexnet", mean=IMAGENET_MEAN, std=IMAGENET_STD),
    "conformer_tiny": BackboneFacts(
        builder="chexvision.models.conformer:conformer_tiny", mean=IMAGENET_MEAN, std=IMAGENET_STD
    ),
    "conformer_small": BackboneFacts(
        builder="chexvision.models.conformer:conformer_small", mean=IMAGENET_MEAN, std=IMAGENET_STD
    ),
    "conformer_base": BackboneFacts(
        builder="chexvision.models.conformer:conformer_base", mean=IMAGENET_MEAN, std=IMAGENET_STD
    ),
    "dsan_cnn": BackboneFacts(builder="chexvision.models.dsan_cnn:dsan_cnn", mean=IMAGENET_MEAN, std=IMAGENET_STD),
    "vit_small_spt": BackboneFacts(
        builder="chexvision.models.shifted_patches:vit_small_spt", mean=IMAGENET_MEAN, std=IMAGENET_STD
    ),
    "se_resnet34": BackboneFacts(
        builder="chexvision.models.se_resnet:se_resnet34", mean=IMAGENET_MEAN, std=IMAGENET_STD
    ),
    "se_resnet18_slim": BackboneFacts(
        builder="chexvision.models.se_resnet:se_resnet18_slim", mean=IMAGENET_MEAN, std=IMAGENET_STD
    ),
    "timm/densenet121.tv_in1k": BackboneFacts(
        timm="densenet121.tv_in1k", mean=IMAGENET_MEAN, std=IMAGENET_STD, has_weights=True
    ),
}
# Names of earlier versions.
RENAMED = {"densenet121": "timm/densenet121.tv_in1k"}


def check_backbone(name: str) -> None:
    """Check that `name` is in the table, or may be a network of timm; whether timm has it is not checked.

    Raises:
        ValueError: it is neither.
    """
    if name not in BACKBONES and not _TIMM_NAME.fullmatch(name):
        own = sorted(one for one in BACKBONES if not one.startswith(TIMM))
        short = {one.removeprefix(TIMM): one for one in BACKBONES}
        close = [RENAMED[name]] if name in RENAMED else [short[one] for one in difflib.get_close_matches(name, short)]
        guess = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"unknown backbone {name!r}; known are {', '.join(own)} and timm/<model>[.<tag>]{guess}")


def facts(name: str) -> BackboneFacts:
    """What the table says about the network `name`; for another network of timm only its name there."""
    return BACKBONES[name] if name in BACKBONES else BackboneFacts(timm=name.removeprefix(TIMM))


def has_imagenet_weights(name: str) -> bool:
    """Whether the network `name` is published with weights, as far as is known without timm."""
    return facts(name).has_weights if name in BACKBONES else name.startswith(TIMM)


# Licenses by the Hub's names, https://huggingface.co/docs/hub/repositories-licenses; others are named in words.
LICENSES = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0")
_FREE = ("apache-2.0", "mit", "bsd-3-clause")


def forbids_commercial_use(license: str | None) -> bool:
    """Whether a license of weights has Creative Commons' NC clause."""
    return license is not None and "-nc" in license


def license_note(weights: str, license: str | None) -> str | None:
    """What a person should know about the license of `weights`; None where it restricts nothing, or is unknown."""
    if license is None or license in _FREE:
        return None
    terms = "forbids commercial use" if forbids_commercial_use(license) else "has terms of its own"
    return f"the weights {weights} are under {license}, which {terms}; so is a model that was trained from them"
