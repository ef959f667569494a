"""What a network provides to the dual head, to freezing and to explanations."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

from torch import Tensor, nn

from chexvision.errors import UsageError


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

    def freeze(self, what: str | int, name: str) -> None:
        """Choose which parameters learn.

        After the next `train()`, a module whose parameters are all frozen is in evaluation mode: its norms keep their
        running statistics, and it drops nothing.

        Args:
            what: "none"; "all"; "partial", all but the last stage; or the number of the first stages to freeze, of
                which the stem is one.
            name: of the network, for messages.

        Raises:
            UsageError: there are fewer stages.
        """
        stages = self.layers(coarse=True)
        counts = {"none": 0, "partial": len(stages) - 1, "all": len(stages)}
        count = counts[what] if isinstance(what, str) else what
        if count > len(stages):
            raise UsageError(
                f"{count} stages cannot be frozen: {name} has {len(stages)}, the stem included; "
                f"set freeze to at most {len(stages)}"
            )
        frozen = {parameter for stage in stages[:count] for parameter in stage}
        for of, parameter in self.named_parameters():
            parameter.requires_grad_(of not in frozen)

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`; modules whose parameters are all frozen stay in evaluation mode."""
        super().train(mode)
        if mode:
            for module in self.modules():
                parameters = list(module.parameters())
                if parameters and not any(parameter.requires_grad for parameter in parameters):
                    module.eval()
        return self


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
