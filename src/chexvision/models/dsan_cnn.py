"""The small CNN of the DSAN study: three convolutions and a fully connected layer of 512."""

from __future__ import annotations

from torch import Tensor, nn

_WIDTHS = (32, 64, 128)
_CELLS = 7  # per side of the map that is connected to `_HIDDEN`
_HIDDEN = 512


class DsanCnn(nn.Module):
    """3x3 convolutions of 32, 64 and 128 channels, each with ReLU and 2x2 max pooling, and a layer of 512.

    The study gives 3.3 million parameters, and no pooling. A last map of 7x7 cells, the usual one, makes it 3,312,206
    with 14 outputs: 93,248 of the convolutions, 3,211,776 between the map and the layer, 7,182 of the outputs. The
    28x28 cells of the third pooling at 224² would be 51.5 million: the map is averaged to 7x7, whatever the image
    size.
    """

    def __init__(self) -> None:
        super().__init__()
        channels = 3
        layers: list[nn.Module] = []
        for width in _WIDTHS:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(_CELLS)
        self.hidden = nn.Sequential(nn.Linear(channels * _CELLS**2, _HIDDEN), nn.ReLU(inplace=True))
        self.channels = _HIDDEN

    def forward(self, images: Tensor) -> Tensor:
        """float[B, 3, H, W] to float[B, 128, H/8, W/8]."""
        out: Tensor = self.features(images)
        return out

    def pool(self, features: Tensor) -> Tensor:
        """float[B, 128, h, w] to float[B, 512]."""
        out: Tensor = self.hidden(self.avgpool(features).flatten(1))
        return out
