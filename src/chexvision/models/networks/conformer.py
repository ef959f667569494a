"""Conformer: a convolutional and a transformer branch that exchange their features in every block.

Peng et al., "Conformer: Local Features Coupling Global Representations for Visual Recognition", ICCV 2021.

Parameters have the names of the authors' implementation (github.com/pengzhiliang/Conformer), so that its published
weights load without renaming.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from chexvision.errors import ChexError
from chexvision.models.backbone import Backbone, grouped_parameters, tokens_as_map

_STEM = 64  # channels after the stem
_BASE = 64  # channels of a stage are this times the ratio, times 1, 2 and 4
_EXPANSION = 4  # of a bottleneck
_BLOCKS = 12
_PER_STAGE = 4
_PATCH = 16

_batch_norm = partial(nn.BatchNorm2d, eps=1e-6)  # the authors' value; the stem has torch's default


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a quarter of the channels, with a shortcut.

    Args:
        in_channels: of the input.
        channels: of the output.
        stride: of the 3x3 convolution.
        project: whether the shortcut is a convolution; needed where size or channels change.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1, *, project: bool = False) -> None:
        super().__init__()
        narrow = channels // _EXPANSION
        self.conv1 = nn.Conv2d(in_channels, narrow, 1, bias=False)
        self.bn1 = _batch_norm(narrow)
        self.conv2 = nn.Conv2d(narrow, narrow, 3, stride, padding=1, bias=False)
        self.bn2 = _batch_norm(narrow)
        self.conv3 = nn.Conv2d(narrow, channels, 1, bias=False)
        self.bn3 = _batch_norm(channels)
        self.residual_conv: nn.Module = nn.Identity()
        self.residual_bn: nn.Module = nn.Identity()
        if project:
            self.residual_conv = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.residual_bn = _batch_norm(channels)
        self.relu = nn.ReLU(inplace=True)
        self.last_relu = nn.ReLU(inplace=False)  # explanations take gradients at its output

    def reduced(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """float[B, in_channels, H, W] to the narrow map float[B, channels/4, H/stride, W/stride].

        Args:
            x: the input.
            added: float[B, channels/4, H, W] of the other branch, added before the 3x3 convolution.
        """
        y = self.relu(self.bn1(self.conv1(x)))
        out: Tensor = self.relu(self.bn2(self.conv2(y if added is None else y + added)))
        return out

    def expanded(self, x: Tensor, narrow: Tensor) -> Tensor:
        """The block's output float[B, channels, H/stride, W/stride] from its input and its narrow map."""
        out: Tensor = self.last_relu(self.bn3(self.conv3(narrow)) + self.residual_bn(self.residual_conv(x)))
        return out

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """float[B, in_channels, H, W] to float[B, channels, H/stride, W/stride]."""
        return self.expanded(x, self.reduced(x, added))


class MapToTokens(nn.Module):
    """The feature-coupling unit from the convolutional to the transformer branch."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv_project = nn.Conv2d(channels, width, 1)
        self.sample_pooling = nn.AvgPool2d(stride, stride)
        self.ln = nn.LayerNorm(width, eps=1e-6)

    def forward(self, features: Tensor, tokens: Tensor) -> Tensor:
        """The class token of `tokens` and a token per patch of float[B, channels, H, W]: float[B, 1+N, width]."""
        patches = self.sample_pooling(self.conv_project(features)).flatten(2).transpose(1, 2)
        return torch.cat([tokens[:, :1], F.gelu(self.ln(patches))], dim=1)


class TokensToMap(nn.Module):
    """The feature-coupling unit from the transformer to the convolutional branch."""

    def __init__(self, width: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv_project = nn.Conv2d(width, channels, 1)
        self.bn = _batch_norm(channels)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """The patch tokens of float[B, 1+N, width] as a map float[B, channels, height, width]."""
        patches = tokens[:, 1:].transpose(1, 2)
        grid = patches.reshape(*patches.shape[:2], height // self.stride, width // self.stride)
        return F.interpolate(F.relu(self.bn(self.conv_project(grid))), size=(height, width))


class CoupledBlock(nn.Module):
    """One block of both branches: two bottlenecks and one transformer block, coupled in both directions.

    Args:
        in_channels: of the input map.
        channels: of the output map.
        width: of the tokens.
        heads: of the attention.
        patch: side of a patch in cells of the first bottleneck's map.
        drop_path: probability of skipping a branch of the transformer block.
        stride: of the first bottleneck.
        last: whether this is the network's last block, whose second bottleneck halves the map.
    """

    def __init__(
        self, in_channels: int, channels: int, width: int, heads: int, patch: int, drop_path: float,
        *, stride: int, last: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.cnn_block = Bottleneck(in_channels, channels, stride, project=in_channels != channels)
        self.fusion_block = Bottleneck(channels, channels, 2 if last else 1, project=last)
        self.squeeze_block = MapToTokens(channels // _EXPANSION, width, patch)
        self.expand_block = TokensToMap(width, channels // _EXPANSION, patch)
        self.trans_block = _transformer_block(width, heads, drop_path)

    def forward(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """float[B, in_channels, H, W] and float[B, 1+N, width] to the same of the next block."""
        narrow = self.cnn_block.reduced(x)
        x = self.cnn_block.expanded(x, narrow)
        # The class token is added to itself, as in the authors' implementation.
        tokens = self.trans_block(self.squeeze_block(narrow, tokens) + tokens)
        x = self.fusion_block(x, self.expand_block(tokens, *narrow.shape[2:]))
        return x, tokens


class Conformer(Backbone):
    """Both branches up to their features.

    The features are the last map of the convolutional branch with the class token of the transformer branch appended
    to each cell. Their mean is the mean of the map beside the class token, and a linear head on it is the sum of one
    linear classifier per branch: the paper's prediction. The paper's loss is the sum of both classifiers' losses;
    ours is that of the sum.

    Args:
        ratio: a stage's channels are 64 times this, times 1, 2 and 4.
        width: of the tokens.
        heads: of the attention.
        drop_path: probability of skipping a branch of the last transformer block; linear from 0 at the first.
    """

    explained = ("conv_1", *(f"conv_trans_{number}.fusion_block" for number in (4, 8, 11, 12)))

    def __init__(self, ratio: int, width: int, heads: int, drop_path: float = 0.0) -> None:
        super().__init__()
        drops = [drop_path * i / (_BLOCKS - 1) for i in range(_BLOCKS)]
        self.conv1 = nn.Conv2d(3, _STEM, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv_1 = Bottleneck(_STEM, _BASE * ratio, project=True)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.trans_patch_conv = nn.Conv2d(_STEM, width, _PATCH // 4, _PATCH // 4)
        self.trans_1 = _transformer_block(width, heads, drops[0])
        channels = _BASE * ratio
        for number in range(2, _BLOCKS + 1):
            stage = (number - 1) // _PER_STAGE
            wider = _BASE * ratio * 2**stage
            block = CoupledBlock(
                channels, wider, width, heads, _PATCH // 4 // 2**stage, drops[number - 1],
                stride=1 if wider == channels else 2, last=number == _BLOCKS,
            )  # fmt: skip
            self.add_module(f"conv_trans_{number}", block)
            channels = wider
        self.trans_norm = nn.LayerNorm(width)
        self.map_channels = channels
        self.channels = channels + width
        self._initialize()

    def _initialize(self) -> None:
        """As the authors: truncated normals of 0.02 in the transformer, He's in the convolutions."""
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """float[B, 3, H, W] to float[B, channels, h, w]; H and W are multiples of 16, h is H/32, rounded up."""
        base = self.maxpool(F.relu(self.bn1(self.conv1(images))))
        x = self.conv_1(base)
        patches = self.trans_patch_conv(base).flatten(2).transpose(1, 2)
        tokens = self.trans_1(torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1))
        for number in range(2, _BLOCKS + 1):
            x, tokens = self.get_submodule(f"conv_trans_{number}")(x, tokens)
        class_token = self.trans_norm(tokens[:, 0])
        return torch.cat([x, class_token[:, :, None, None].expand(-1, -1, *x.shape[2:])], dim=1)

    def pool(self, features: Tensor) -> Tensor:
        """The mean of the map, and the class token: float[B, channels]."""
        return torch.cat([self.as_map(features).mean(dim=(2, 3)), self.class_token(features)], dim=1)

    def as_map(self, output: Tensor) -> Tensor:
        """The map of the convolutional branch, or the patch tokens of a transformer block."""
        if output.ndim == 3:
            return tokens_as_map(output, prefix=1)
        return output[:, : self.map_channels] if output.shape[1] == self.channels else output

    def class_token(self, features: Tensor) -> Tensor:
        """float[B, width]."""
        return features[:, self.map_channels :, 0, 0]

    def no_weight_decay(self) -> set[str]:
        """The parameters that do not decay beside norms and biases, by timm's convention; as the authors."""
        return {"cls_token"}

    def layers(self, *, coarse: bool) -> list[list[str]]:
        """A stem and three stages, or a stem and twelve blocks."""
        stem = ["conv1", "bn1"]
        blocks = [["conv_1", "cls_token", "trans_patch_conv", "trans_1"]]
        blocks += [[f"conv_trans_{number}"] for number in range(2, _BLOCKS + 1)]
        blocks[-1].append("trans_norm")
        if coarse:
            blocks = [
                [name for block in blocks[first : first + _PER_STAGE] for name in block]
                for first in range(0, _BLOCKS, _PER_STAGE)
            ]
        return grouped_parameters(self, [stem, *blocks])


def conformer_tiny(image_size: int, drop_path: float) -> Conformer:
    """Conformer-Ti: 23.5 million parameters with 1,000 classes per branch."""
    return _conformer(1, 384, 6, image_size, drop_path)


def conformer_small(image_size: int, drop_path: float) -> Conformer:
    """Conformer-S: 37.7 million parameters with 1,000 classes per branch."""
    return _conformer(4, 384, 6, image_size, drop_path)


def conformer_base(image_size: int, drop_path: float) -> Conformer:
    """Conformer-B: 83.3 million parameters with 1,000 classes per branch."""
    return _conformer(6, 576, 9, image_size, drop_path)


def _conformer(ratio: int, width: int, heads: int, image_size: int, drop_path: float) -> Conformer:
    """A network for square images of `image_size` pixels per side.

    Raises:
        ChexError: the image size is not a multiple of the patch size.
    """
    if image_size % _PATCH:
        raise ChexError(f"Conformer takes images whose side is a multiple of {_PATCH}, not {image_size}")
    return Conformer(ratio, width, heads, drop_path)


def _transformer_block(width: int, heads: int, drop_path: float) -> nn.Module:
    return Block(width, heads, qkv_bias=True, drop_path=drop_path)
