"""What a network provides to the dual head, to freezing and to explanations."""

from __future__ import annotations

from abc import ABC, abstractmethod

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
