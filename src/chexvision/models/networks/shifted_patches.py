"""Shifted patch tokenization and locality self-attention, as layers of timm's vision transformers.

Lee, Lee and Song, "Vision Transformer for Small-Size Datasets", arXiv:2112.13492.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from chexvision.errors import ChexError
from chexvision.models.timm_backbone import TimmBackbone

_PATCH = 16


class ShiftedPatchEmbed(nn.Module):
    """A token per patch that also contains half of the patch's neighbors: `embed_layer` of a vision transformer.

    The image is stacked with four copies of it that are shifted by half a patch along the diagonals. Each patch of
    the stack is normalized and projected.

    Args:
        img_size: side of the images in pixels.
        patch_size: side of a patch in pixels, an even number.
        in_chans: channels of the images.
        embed_dim: width of the tokens.
        bias: of the projection.
        strict_img_size: of timm's own layer; not used here, other sizes fail at the position embedding.
        output_fmt: "NHWC" for the tokens as a map, which timm needs where the image size may change.
        dynamic_img_pad: not supported.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: the patches do not tile the image, or `dynamic_img_pad` is set.
    """

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        bias: bool = True,
        strict_img_size: bool = True,
        output_fmt: str | None = None,
        dynamic_img_pad: bool = False,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if img_size % patch_size or patch_size % 2 or dynamic_img_pad:
            raise ValueError(
                f"image size {img_size} is not a multiple of patch size {patch_size}, which must be even"
            )
        self.patch_size = patch_size
        self.as_map = output_fmt == "NHWC"
        self.grid_size = (img_size // patch_size, img_size // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        values = 5 * in_chans * patch_size**2
        self.norm = nn.LayerNorm(values, device=device, dtype=dtype)
        self.proj = nn.Linear(values, embed_dim, bias, device=device, dtype=dtype)

    def forward(self, images: Tensor) -> Tensor:
        """float[B, in_chans, H, W] to tokens float[B, N, embed_dim], or float[B, h, w, embed_dim] as a map."""
        patches = F.pixel_unshuffle(self.shifted(images), self.patch_size).permute(0, 2, 3, 1)
        tokens: Tensor = self.proj(self.norm(patches))
        return tokens if self.as_map else tokens.flatten(1, 2)

    def shifted(self, images: Tensor) -> Tensor:
        """The images and their shifted copies, zero where a copy has no pixel: float[B, 5 in_chans, H, W]."""
        half = self.patch_size // 2
        height, width = images.shape[2:]
        padded = F.pad(images, (half, half, half, half))
        corners = [(y, x) for y in (0, 2 * half) for x in (0, 2 * half)]
        return torch.cat([images, *(padded[:, :, y : y + height, x : x + width] for y, x in corners)], dim=1)


class LocalityAttention(nn.Module):
    """Self-attention in which no token attends to itself, with a learned temperature per head: `attn_layer`.

    Args:
        dim: width of the tokens.
        num_heads: of the attention.
        qkv_bias: whether queries, keys and values have a bias.
        proj_bias: whether the projection has one.
        attn_drop: dropout of the attention, in [0, 1).
        proj_drop: dropout of the output, in [0, 1).
        device: of the parameters.
        dtype: of the parameters.
        others: timm's norms of queries, keys and values; none may be set.

    Raises:
        ValueError: a norm of queries, keys or values is set.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        qkv_bias: bool = False,
        proj_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        **others: object,
    ) -> None:
        super().__init__()
        if others.get("qk_norm") or others.get("scale_norm"):
            raise ValueError("locality self-attention has no norms of queries, keys or values")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, qkv_bias, device=device, dtype=dtype)
        self.temperature = nn.Parameter(
            torch.full((num_heads, 1, 1), (dim // num_heads) ** -0.5, device=device, dtype=dtype)
        )
        self.attn_drop = attn_drop
        self.proj = nn.Linear(dim, dim, proj_bias, device=device, dtype=dtype)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """float[B, N, dim] to float[B, N, dim]; N is at least 2.

        Raises:
            ValueError: a further mask is given.
        """
        if attn_mask is not None or is_causal:
            raise ValueError("locality self-attention takes no further mask")
        queries, keys, values = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        others = ~torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        attended = F.scaled_dot_product_attention(
            queries * self.temperature, keys, values, others, self.attn_drop if self.training else 0.0, scale=1.0
        )
        out: Tensor = self.proj_drop(self.proj(attended.transpose(1, 2).flatten(2)))
        return out


def vit_small_spt(image_size: int, drop_path: float) -> TimmBackbone:
    """ViT-S/16 with both changes and random weights: 23 million parameters at 224².

    The paper trains smaller networks, of 192 channels and 9 blocks, on images of 32² and 64².

    Raises:
        ChexError: the image size is not a multiple of the patch size.
    """
    if image_size % _PATCH:
        raise ChexError(f"vit_small_spt takes images whose side is a multiple of {_PATCH}, not {image_size}")
    network = VisionTransformer(
        img_size=image_size, patch_size=_PATCH, num_classes=0, embed_dim=384, depth=12, num_heads=6,
        drop_path_rate=drop_path, dynamic_img_size=True, embed_layer=ShiftedPatchEmbed, attn_layer=LocalityAttention,
    )  # fmt: skip
    return TimmBackbone(network)
