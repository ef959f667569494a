"""SE-ResNet-34: residual blocks that weigh their channels.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016;
Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

from chexvision.errors import ChexError
from chexvision.models.backbone import Backbone, grouped_parameters


class SEBasicBlock(nn.Module):
    """Two 3x3 convolutions, squeeze-excitation, and the shortcut around them."""

    def __init__(self, in_channels: int, channels: int, stride: int, reduction: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.se = SqueezeExcitation(channels, channels // reduction)
        self.relu = nn.ReLU(inplace=True)
        self.last_relu = nn.ReLU(inplace=False)  # explanations take gradients at its output
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """float[B, in_channels, H, W] to float[B, channels, H/stride, W/stride]."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.se(self.bn2(self.conv2(y)))
        out: Tensor = self.last_relu(y + self.shortcut(x))
        return out


class SEResNet(Backbone):
    """A 7x7 stem and four stages: float[B, 3, H, W] to float[B, widths[-1], H/32, W/32]."""

    explained = ("0", "1", "2", "3", "4")
    any_size = True

    def __init__(self, depths: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        stages: list[nn.Module] = [stem]
        channels = widths[0]
        for depth, width in zip(depths, widths, strict=True):
            stride = 1 if width == widths[0] else 2
            blocks = [
                SEBasicBlock(channels if i == 0 else width, width, stride if i == 0 else 1) for i in range(depth)
            ]
            stages.append(nn.Sequential(*blocks))
            channels = width
        self.channels = channels
        for number, stage in enumerate(stages):
            self.add_module(str(number), stage)
        self._initialize()

    def forward(self, images: Tensor) -> Tensor:
        """float[B, 3, H, W] to float[B, channels, H/32, W/32]."""
        for stage in self.children():
            images = stage(images)
        return images

    def pool(self, features: Tensor) -> Tensor:
        """The mean of the map: float[B, channels]."""
        return F.adaptive_avg_pool2d(features, 1).flatten(1)

    def as_map(self, output: Tensor) -> Tensor:
        """The output itself."""
        return output

    def class_token(self, features: Tensor) -> None:
        """None."""

    def layers(self, *, coarse: bool) -> list[list[str]]:
        """The stem and the stages, or the stem and their blocks."""
        groups = [["0"]]
        for number, stage in list(self.named_children())[1:]:
            names = [f"{number}.{block}" for block, _ in stage.named_children()]
            groups += [names] if coarse else [[name] for name in names]
        return grouped_parameters(self, groups)

    @torch.no_grad()
    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)


def se_resnet34(image_size: int, drop_path: float) -> SEResNet:
    """Depths [3, 4, 6, 3], widths 64 to 512, Kaiming initialization.

    Args:
        image_size: any.
        drop_path: must be 0.

    Raises:
        ChexError: `drop_path` is not 0.
    """
    return _without_drop_path("se_resnet34", drop_path, depths=(3, 4, 6, 3), widths=(64, 128, 256, 512))


def se_resnet18_slim(image_size: int, drop_path: float) -> SEResNet:
    """Depths [2, 2, 2, 2], widths 32 to 256: an eighth of `se_resnet34`'s time, for studies on a CPU.

    Args:
        image_size: any.
        drop_path: must be 0.

    Raises:
        ChexError: `drop_path` is not 0.
    """
    return _without_drop_path("se_resnet18_slim", drop_path, depths=(2, 2, 2, 2), widths=(32, 64, 128, 256))


def _without_drop_path(name: str, drop_path: float, depths: Sequence[int], widths: Sequence[int]) -> SEResNet:
    if drop_path:
        raise ChexError(f"{name} has no drop path: set model.drop_path to 0, not {drop_path}")
    return SEResNet(depths, widths)
