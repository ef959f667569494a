"""What a network provides to the dual head, to freezing and to explanations."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """A network without its classifier.

    Attributes:
        channels: of the pooled features.
        explained: the modules, by name as of `get_submodule`, whose outputs explanations can be computed at, from the
            input to the output. `as_map` takes the output of each.
        any_size: whether images may have other sizes than the network was built for.
    """

    channels: int
    explained: tuple[str, ...]
    any_size: bool = False

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """The last features of float[B, 3, H, W] in the network's own layout: a map, or tokens."""

    @abstractmethod
    def pool(self, features: Tensor) -> Tensor:
        """The result of `forward` as float[B, channels], pooled and normalized as the network was published."""

    @abstractmethod
    def as_map(self, output: Tensor) -> Tensor:
        """The result of `forward`, or the output of a module of `explained`, as float[B, C, h, w].

        Class and register tokens are left out; patch tokens become the map that they tile.
        """

    @abstractmethod
    def class_token(self, features: Tensor) -> Tensor | None:
        """The class token of the result of `forward`, float[B, C]; None for a network that has none."""

    @abstractmethod
    def layers(self, *, coarse: bool) -> list[list[str]]:
        """The names of all parameters in groups from the input to the output.

        Args:
            coarse: one group for the stem and for each stage, which `freeze` counts; else one for each block, which
                layer-wise learning rates decay over.
        """


def grouped_parameters(network: nn.Module, groups: Sequence[Sequence[str]]) -> list[list[str]]:
    """The names of all parameters of `network`, those below the modules (or parameters) of a group together.

    Raises:
        ValueError: a parameter is in no group.
    """
    found: list[list[str]] = [[] for _ in groups]
    for name, _ in network.named_parameters():
        for group, modules in zip(found, groups, strict=True):
            if any(name == module or name.startswith(f"{module}.") for module in modules):
                group.append(name)
                break
        else:
            raise ValueError(f"parameter {name} is in no group")
    return found


def tokens_as_map(tokens: Tensor, prefix: int) -> Tensor:
    """Patch tokens float[B, prefix + side², C] as float[B, C, side, side], without the class and register tokens.

    Raises:
        ValueError: the patches do not tile a square.
    """
    patches = tokens[:, prefix:].transpose(1, 2)
    side = math.isqrt(patches.shape[2])
    if side**2 != patches.shape[2]:
        raise ValueError(f"{tokens.shape[1]} tokens, of which {prefix} are not patches, do not tile a square")
    return patches.reshape(*patches.shape[:2], side, side)
