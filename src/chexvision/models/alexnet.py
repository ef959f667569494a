"""AlexNet, which timm lacks: Krizhevsky, "One weird trick for parallelizing convolutional neural networks",
arXiv:1404.5997, as torchvision has it."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import alexnet

_WIDTH = 4096


class AlexNet(nn.Module):
    """torchvision's AlexNet without its last layer, the 1,000 classes. Parameters have torchvision's names."""

    def __init__(self) -> None:
        super().__init__()
        network = alexnet()
        self.features = network.features
        self.avgpool = network.avgpool
        self.classifier = network.classifier[:-1]
        self.channels = _WIDTH

    def forward(self, images: Tensor) -> Tensor:
        """float[B, 3, H, W], at least 63 pixels per side, to float[B, 256, h, w]; 224² gives 6x6 cells."""
        out: Tensor = self.features(images)
        return out

    def pool(self, features: Tensor) -> Tensor:
        """float[B, 256, h, w] through the two layers of 4,096: float[B, 4096]."""
        out: Tensor = self.classifier(self.avgpool(features).flatten(1))
        return out
