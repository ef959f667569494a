"""Backbones of a few layers, which train in milliseconds."""

from __future__ import annotations

from torch import Tensor, nn

from chexvision.models.backbone import Backbone, grouped_parameters


class Chain(Backbone):
    """Modules one after the other, from float[B, 3, H, W] to float[B, channels, h, w]; the mean of the map."""

    any_size = True

    def __init__(self, *modules: nn.Module, channels: int) -> None:
        super().__init__()
        for number, module in enumerate(modules):
            self.add_module(str(number), module)
        self.channels = channels
        self.explained = tuple(name for name, _ in self.named_children())

    def forward(self, images: Tensor) -> Tensor:
        for module in self.children():
            images = module(images)
        return images

    def pool(self, features: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(features, 1).flatten(1)

    def as_map(self, output: Tensor) -> Tensor:
        return output

    def class_token(self, features: Tensor) -> None:
        pass

    def layers(self, *, coarse: bool) -> list[list[str]]:
        return grouped_parameters(self, [[name] for name, one in self.named_children() if list(one.parameters())])


def tiny_backbone(image_size: int, drop_path: float) -> Chain:
    """Two convolutions with a norm: float[B, 3, H, W] to float[B, 16, H/4, W/4]."""
    return Chain(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        channels=16,
    )
