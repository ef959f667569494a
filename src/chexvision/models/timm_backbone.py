"""Networks of timm as backbones: Wightman, "PyTorch Image Models", https://github.com/huggingface/pytorch-image-models."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from itertools import chain
from typing import Any

from torch import Tensor, nn

from chexvision.errors import ChexError
from chexvision.models.backbone import Backbone, tokens_as_map

# These resample their position embedding to the image, so that one network takes images of several sizes.
_ANY_SIZE = ("vision_transformer", "deit", "eva")
# What may follow the last of timm's `feature_info` in `forward_features`.
_LAST_NORMS = ("bn2", "norm")


class TimmBackbone(Backbone):
    """A network of timm without its classifier.

    Args:
        network: any network of timm that has `forward_features`, `forward_head` and `group_matcher`. Its activations
            no longer work in place: that breaks gradients taken at the outputs of modules.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any
        self.network = network
        self.network.reset_classifier(0)
        for module in network.modules():
            if getattr(module, "inplace", False):
                module.inplace = False  # type: ignore[assignment]
        self.any_size = not getattr(network, "pretrained_cfg", {}).get("fixed_input_size", False)
        self.channels = getattr(self.network, "head_hidden_size", 0) or self.network.num_features
        self._prefix = getattr(self.network, "num_prefix_tokens", 0)
        self._channels_last = getattr(network, "output_fmt", None) == "NHWC"
        self.explained = tuple(f"network.{name}" for name in self._explained())

    def _explained(self) -> list[str]:
        names = [str(info["module"]) for info in self.network.feature_info]
        if self._prefix and self.network.global_pool == "token":
            # The class token does not depend on what the last block does to the other tokens.
            return [f"{name}.norm1" for name in names]
        if names[0].startswith("blocks.") and isinstance(self.network.blocks, nn.Sequential) and self._prefix:
            return names
        return names + [
            name for name in _LAST_NORMS if not isinstance(getattr(self.network, name, None), nn.Identity | None)
        ]

    def forward(self, images: Tensor) -> Tensor:
        """timm's `forward_features`."""
        features: Tensor = self.network.forward_features(images)
        return features

    def pool(self, features: Tensor) -> Tensor:
        """timm's `forward_head` without the classifier: float[B, channels]."""
        pooled: Tensor = self.network.forward_head(features, pre_logits=True)
        return pooled

    def as_map(self, output: Tensor) -> Tensor:
        """Maps, in either memory layout, or tokens, as float[B, C, h, w]."""
        if output.ndim == 3:
            return tokens_as_map(output, self._prefix)
        return output.permute(0, 3, 1, 2) if self._channels_last else output

    def class_token(self, features: Tensor) -> Tensor | None:
        """The first token, where the network has a class token."""
        has_one = getattr(self.network, "cls_token", None) is not None
        return features[:, 0] if has_one else None

    def layers(self, *, coarse: bool) -> list[list[str]]:
        """timm's groups; parameters that belong to none, such as the last norm, count to the last one."""
        from timm.models._manipulate import group_with_matcher

        # A name that matches nothing shows which group is that of the rest.
        names = chain(self.network.named_parameters(), [("~", None)])
        groups: list[list[str]] = list(group_with_matcher(names, self.network.group_matcher(coarse=coarse)).values())
        groups[-1].remove("~")
        rest = groups.pop()
        groups[-1] += rest
        return [[f"network.{name}" for name in group] for group in groups]


def timm_backbone(name: str, arguments: Mapping[str, object], image_size: int, drop_path: float) -> TimmBackbone:
    """The network `name` of timm with random weights.

    Args:
        name: ``<model>[.<tag>]``.
        arguments: of `timm.create_model`.
        image_size: side of the images in pixels.
        drop_path: probability that the last block's residual branch is dropped; linear from 0 at the first block.

    Raises:
        ChexError: timm has no such network, or it does not take this image size or drop path.
    """
    import timm

    config = known_network(name)
    options: dict[str, Any] = dict(arguments)
    if config.fixed_input_size:
        options["img_size"] = image_size
        if timm.models.model_entrypoint(name).__module__.rpartition(".")[2] in _ANY_SIZE:
            options["dynamic_img_size"] = True
    if drop_path:
        options["drop_path_rate"] = drop_path
    try:
        network = timm.create_model(name, **options)
        patches = getattr(getattr(network, "patch_embed", None), "patch_size", 1)
        patch = patches if isinstance(patches, int) else patches[0]
        if image_size % patch:  # which timm notices in the forward pass alone
            raise ValueError(f"the side is not a multiple of the patches' {patch}")
        return TimmBackbone(network)
    except TypeError as error:
        if drop_path and "drop_path_rate" in str(error):
            raise ChexError(f"timm's {name} has no drop path; set model.drop_path=0") from None
        raise
    except (AssertionError, ValueError, RuntimeError) as error:
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise ChexError(f"timm's {name} cannot be built for images of {image_size} pixels: {detail}") from None


def known_network(name: str) -> Any:
    """timm's `PretrainedCfg` of ``<model>[.<tag>]``.

    Raises:
        ChexError: timm has no such network, or no such weights of it.
    """
    import timm

    model, _, tag = name.partition(".")
    if not timm.is_model(model):
        close = difflib.get_close_matches(model, timm.list_models(), n=3)
        guess = f"; the nearest are {', '.join(f'timm/{one}' for one in close)}" if close else ""
        raise ChexError(f"timm {timm.__version__} has no network {model!r}{guess}")
    tags = [one.partition(".")[2] for one in timm.list_pretrained(f"{model}.*")]
    if tag and tag not in tags:
        known = ", ".join(f"timm/{model}.{one}" for one in sorted(tags)) or f"timm/{model}, without weights"
        raise ChexError(f"timm {timm.__version__} has no weights {tag!r} of {model}; known are {known}")
    return timm.models.get_pretrained_cfg(name)
