"""AlexNet, which timm lacks.

Krizhevsky, "One weird trick for parallelizing convolutional neural networks", arXiv:1404.5997, as in torchvision.
"""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn

from chexvision.errors import ChexError
from chexvision.models.backbone import Backbone, grouped_parameters

_CLASSES = "classifier.6."
SMALLEST = 63  # pixels per side; below, the last pooling has no cell left


class AlexNet(Backbone):
    """torchvision's AlexNet without its last layer, the 1,000 classes. Parameters have torchvision's names."""

    explained = ("features.2", "features.5", "features.11", "features.12")
    any_size = True
    channels = 4096

    def __init__(self) -> None:
        super().__init__()
        network = torchvision.models.alexnet()
        self.features: nn.Module = network.features
        self.avgpool: nn.Module = network.avgpool
        self.classifier: nn.Module = network.classifier[:-1]

    def forward(self, images: Tensor) -> Tensor:
        """float[B, 3, H, W] to float[B, 256, h, w]; 224² gives 6x6 cells."""
        out: Tensor = self.features(images)
        return out

    def pool(self, features: Tensor) -> Tensor:
        """float[B, 256, h, w] through the two layers of 4,096: float[B, 4096]."""
        out: Tensor = self.classifier(self.avgpool(features).flatten(1))
        return out

    def as_map(self, output: Tensor) -> Tensor:
        """The output itself."""
        return output

    def class_token(self, features: Tensor) -> None:
        """None."""

    def layers(self, *, coarse: bool) -> list[list[str]]:
        """The five convolutions and the two layers of 4,096."""
        learned = [f"features.{i}" for i in (0, 3, 6, 8, 10)] + ["classifier.1", "classifier.4"]
        return grouped_parameters(self, [[name] for name in learned])


def alexnet(image_size: int, drop_path: float) -> AlexNet:
    """A network with random weights.

    Args:
        image_size: at least `SMALLEST`.
        drop_path: must be 0.

    Raises:
        ChexError: the images are too small, or `drop_path` is not 0; the network has no shortcuts.
    """
    if image_size < SMALLEST:
        raise ChexError(f"alexnet takes images of {SMALLEST} pixels per side or more, not {image_size}")
    if drop_path:
        raise ChexError(f"alexnet has no shortcuts to drop: set model.drop_path to 0, not {drop_path}")
    return AlexNet()


def imagenet_weights() -> dict[str, Tensor]:
    """torchvision's weights for `AlexNet`, by parameter.

    Raises:
        ChexError: they could not be downloaded.
    """
    weights = torchvision.models.AlexNet_Weights.IMAGENET1K_V1
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise ChexError(
            f"the weights of AlexNet could not be downloaded from {weights.url} ({error}); check the network, put "
            f"the file into {torch.hub.get_dir()}/checkpoints, or train with --set model.weights=none"
        ) from None
    return {name: value for name, value in state.items() if not name.startswith(_CLASSES)}
