"""The small CNN of the DSAN study: three convolutions and a fully connected layer of 512."""

from __future__ import annotations

from torch import Tensor, nn

from chexvision.errors import ChexError
from chexvision.models.backbone import Backbone, grouped_parameters

_WIDTHS = (32, 64, 128)
_CELLS = 7  # per side of the map that is connected to `_HIDDEN`
_HIDDEN = 512


class DsanCnn(Backbone):
    """3x3 convolutions of 32, 64 and 128 channels, each with ReLU and 2x2 max pooling, and a layer of 512.

    The study gives 3.3 million parameters, but not the map that the layer is connected to. One of 7x7 cells, the
    usual choice, gives 3,312,206 with 14 outputs: 93,248 in the convolutions, 3,211,776 in the layer, 7,182 in the
    outputs. One of 28x28 cells, what three poolings leave of 224², would give 51 million. The last map is therefore
    averaged to 7x7 cells, which also makes the network independent of the image size.
    """

    explained = ("features.2", "features.5", "features.8")
    channels = _HIDDEN

    def __init__(self) -> None:
        super().__init__()
        inputs = 3
        layers: list[nn.Module] = []
        for width in _WIDTHS:
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
            inputs = width
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(_CELLS)
        self.hidden = nn.Sequential(nn.Linear(inputs * _CELLS**2, _HIDDEN), nn.ReLU(inplace=True))

    def forward(self, images: Tensor) -> Tensor:
        """float[B, 3, H, W] to float[B, 128, H/8, W/8]."""
        out: Tensor = self.features(images)
        return out

    def pool(self, features: Tensor) -> Tensor:
        """float[B, 128, h, w] to float[B, 512]."""
        out: Tensor = self.hidden(self.avgpool(features).flatten(1))
        return out

    def as_map(self, output: Tensor) -> Tensor:
        """The output itself."""
        return output

    def class_token(self, features: Tensor) -> None:
        """None."""

    def layers(self, *, coarse: bool) -> list[list[str]]:
        """The three convolutions and the layer of 512."""
        return grouped_parameters(self, [["features.0"], ["features.3"], ["features.6"], ["hidden"]])


def dsan_cnn(image_size: int, drop_path: float) -> DsanCnn:
    """A network with random weights.

    Args:
        image_size: any.
        drop_path: must be 0.

    Raises:
        ChexError: `drop_path` is not 0; the network has no shortcuts.
    """
    if drop_path:
        raise ChexError(f"dsan_cnn has no shortcuts to drop: set model.drop_path to 0, not {drop_path}")
    return DsanCnn()
