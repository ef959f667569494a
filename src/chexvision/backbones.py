"""The backbones by name. A table without torch, so that a laptop can check a recipe."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
        parameters: without a classifier.
        gmacs: multiply-accumulate operations of one image of `input_size` pixels per side, in units of 10^9.
        input_size: side of the images that the weights were trained on, or of the paper's.
        smallest: side of the smallest images that the network takes.
        multiple: of which the side has to be one.
        one_size: whether the network takes only images of the size that it was built for, as position embeddings that
            are not interpolated or windows that tile the image require.
        license: of the weights, by the Hub's name.
        mean: of radiographs in [0, 1], as the weights expect it: the average over the channels.
        std: the same.
        has_weights: whether `model.weights: imagenet` exists.
    """

    timm: str = ""
    arguments: Mapping[str, object] = field(default_factory=dict)
    builder: str = ""
    parameters: int | None = None
    gmacs: float | None = None
    input_size: int | None = None
    smallest: int = 1
    multiple: int = 1
    one_size: bool = False
    license: str | None = None
    mean: float | None = None
    std: float | None = None
    has_weights: bool = False

    @property
    def non_commercial(self) -> bool:
        """Whether the license of the weights forbids commercial use."""
        return forbids_commercial_use(self.license)


def _timm(name: str, parameters: int, gmacs: float, input_size: int = 224, **others: Any) -> BackboneFacts:
    """A network of timm whose weights are published under the tag."""
    known = {"license": "apache-2.0", "mean": IMAGENET_MEAN, "std": IMAGENET_STD, "smallest": 32, "has_weights": True}
    return BackboneFacts(timm=name, parameters=parameters, gmacs=gmacs, input_size=input_size, **{**known, **others})


def _own(builder: str, parameters: int, gmacs: float, **others: Any) -> BackboneFacts:
    """A network of this package."""
    known = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "smallest": 32, "input_size": 224}
    where = f"chexvision.models.networks.{builder}"
    return BackboneFacts(builder=where, parameters=parameters, gmacs=gmacs, **{**known, **others})


_HALF: dict[str, Any] = {"mean": 0.5, "std": 0.5}  # Inception's normalization
_CLIP: dict[str, Any] = {"mean": 0.4492, "std": 0.2686}  # of OpenAI's CLIP, which EVA-02 learned from
_PATCH_14: dict[str, Any] = {"multiple": 14, "smallest": 28}
_PATCH_16: dict[str, Any] = {"multiple": 16}
_SWIN: dict[str, Any] = {"license": "mit", "multiple": 4, "smallest": 64, "one_size": True}
_WINDOWS: dict[str, Any] = {"multiple": 32, "smallest": 64, "one_size": True}
# Weights for radiographs, which `chexvision weights convert` makes of the published files. EVA-X: Yao et al.,
# arXiv:2405.05237, mean and deviation of its classification/datasets. Medical MAE: Xiao et al., WACV 2023. RAD-DINO:
# Perez-Garcia et al., arXiv:2401.10815, mean and deviation of its preprocessor_config.json.
_EVA_X: dict[str, Any] = {
    "license": "mit", "mean": 0.4919, "std": 0.2851, "has_weights": False, **_PATCH_16,
    "arguments": {"patch_size": 16, "ref_feat_shape": (14, 14)},
}  # fmt: skip

_TABLE = (
    _timm("densenet121.tv_in1k", 6_953_856, 2.83),
    _timm("resnet50.a1_in1k", 23_508_032, 4.09),
    _timm("resnet50.tv2_in1k", 23_508_032, 2.61, 176, license="bsd-3-clause"),
    _timm("resnet152.a1_in1k", 58_143_808, 11.51),
    _timm("resnet152.tv_in1k", 58_143_808, 11.51, license="bsd-3-clause"),
    _timm("resnet152.tv2_in1k", 58_143_808, 7.19, 176, license="bsd-3-clause"),
    _timm("inception_v3.tv_in1k", 21_785_568, 5.71, 299, **{**_HALF, "smallest": 75}),
    _timm("tf_efficientnet_b0.ns_jft_in1k", 4_007_548, 0.38),
    _timm("tf_efficientnet_b4.ns_jft_in1k", 17_548_616, 4.39, 380),
    _timm("tf_efficientnetv2_s.in21k_ft_in1k", 20_177_488, 5.31, 300, **_HALF),
    _timm("convnext_tiny.fb_in22k_ft_in1k", 27_820_128, 4.45),
    _timm("convnext_tiny.in12k_ft_in1k", 27_820_128, 4.45),
    _timm("convnext_tiny.dinov3_lvd1689m", 27_820_128, 4.45, license="dinov3-license"),
    _timm("convnext_small.fb_in22k_ft_in1k", 49_454_688, 8.68),
    _timm("convnextv2_tiny.fcmae_ft_in22k_in1k", 27_866_496, 4.45, license="cc-by-nc-4.0"),
    _timm("swin_tiny_patch4_window7_224.ms_in1k", 27_519_354, 4.49, **_SWIN),
    _timm("swin_tiny_patch4_window7_224.ms_in22k_ft_in1k", 27_519_354, 4.49, **_SWIN),
    _timm("swin_base_patch4_window7_224.ms_in22k_ft_in1k", 86_743_224, 15.43, **_SWIN),
    _timm("coatnet_0_rw_224.sw_in1k", 26_666_562, 4.41, **_HALF, **_WINDOWS),
    _timm("coatnet_1_rw_224.sw_in1k", 40_952_502, 7.99, **_HALF, **_WINDOWS),
    _timm("maxvit_tiny_tf_224.in1k", 30_403_528, 5.55, **_WINDOWS),
    _timm("deit_small_patch16_224.fb_in1k", 21_665_664, 4.6, **_PATCH_16),
    _timm("vit_small_patch16_224.augreg_in21k_ft_in1k", 21_665_664, 4.6, **_HALF, **_PATCH_16),
    _timm("vit_base_patch16_224.augreg_in21k_ft_in1k", 85_798_656, 17.56, **_HALF, **_PATCH_16),
    _timm("vit_base_patch16_224.orig_in21k_ft_in1k", 85_798_656, 17.56, **_HALF, **_PATCH_16),
    _timm("vit_small_patch14_dinov2.lvd142m", 22_056_192, 46.7, 518, **_PATCH_14),
    _timm("vit_base_patch14_dinov2.lvd142m", 86_579_712, 151.57, 518, **_PATCH_14),
    _timm("eva02_tiny_patch14_224.mim_in22k", 5_502_144, 1.7, license="mit", **_CLIP, **_PATCH_14),
    _timm("eva02_small_patch14_224.mim_in22k", 21_621_120, 6.12, license="mit", **_CLIP, **_PATCH_14),
    _timm("eva02_base_patch14_224.mim_in22k", 85_758_720, 23.16, license="mit", **_CLIP, **_PATCH_14),
)

BACKBONES: dict[str, BackboneFacts] = {
    **{f"{TIMM}{one.timm}": one for one in _TABLE},
    "eva_x_tiny": _timm("eva02_tiny_patch14_224", 5_525_184, 1.25, **_EVA_X),
    "eva_x_small": _timm("eva02_small_patch14_224", 21_667_200, 4.6, **_EVA_X),
    "eva_x_base": _timm(
        "eva02_base_patch14_224", 85_850_880, 17.56,
        **{**_EVA_X, "arguments": {**_EVA_X["arguments"], "qkv_fused": False, "scale_mlp": True}},
    ),
    "medmae_vit_small": _timm(
        "vit_small_patch16_224", 21_665_664, 4.6, mean=0.5056, std=0.252, has_weights=False, **_PATCH_16,
        arguments={"global_pool": "avg"},
    ),
    "rad_dino": _timm(
        "vit_base_patch14_dinov2", 86_579_712, 151.57, 518,
        license="mit", mean=0.5307, std=0.2583, has_weights=False, **_PATCH_14,
    ),
    "alexnet": _own("alexnet:alexnet", 57_003_840, 0.71, smallest=63, license="bsd-3-clause", has_weights=True),
    "conformer_tiny": _own("conformer:conformer_tiny", 22_882_704, 5.23, multiple=16, one_size=True),
    "conformer_small": _own("conformer:conformer_small", 36_263_424, 10.6, multiple=16, one_size=True),
    "conformer_base": _own("conformer:conformer_base", 81_175_136, 23.32, multiple=16, one_size=True),
    "dsan_cnn": _own("dsan_cnn:dsan_cnn", 3_305_024, 0.51),
    "se_resnet18_slim": _own("se_resnet:se_resnet18_slim", 2_821_660, 0.48),
    "se_resnet34": _own("se_resnet:se_resnet34", 21_445_868, 3.66),
    "vit_small_spt": _own("shifted_patches:vit_small_spt", 22_853_064, 4.83, multiple=16, one_size=True),
}  # fmt: skip
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


def size_problem(name: str, size: int) -> str | None:
    """Why the network `name` does not take images of `size` pixels per side; None if it does, or is not known."""
    known = facts(name)
    if size < known.smallest:
        return f"{name} takes images of at least {known.smallest} pixels per side, not {size}"
    if size % known.multiple:
        below = size - size % known.multiple
        sizes = [str(one) for one in (below, below + known.multiple) if one >= known.smallest]
        nearest = " or ".join(sizes)
        return f"{name} takes images whose side is a multiple of {known.multiple}, not {size}; use {nearest}"
    return None


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
