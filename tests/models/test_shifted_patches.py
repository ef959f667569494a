"""Shifted patch tokenization and locality self-attention compared with the paper and the authors' implementation."""

from __future__ import annotations

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from chexvision.models.networks.shifted_patches import LocalityAttention, ShiftedPatchEmbed, vit_small_spt
from tests.models.filled import fill, wavy_images


def test_the_parameters_are_those_of_the_authors_vit_for_tiny_imagenet() -> None:
    """github.com/aanna0701/SPT_LSA_ViT: 2.8 million without, 2.9 million with both; computed once with its code."""
    sizes = {"img_size": 64, "patch_size": 8, "num_classes": 200, "embed_dim": 192, "depth": 9, "num_heads": 12}
    layers = {"embed_layer": ShiftedPatchEmbed, "attn_layer": LocalityAttention}
    counts = []
    for changed in ({}, layers):
        with torch.device("meta"):
            network = VisionTransformer(**sizes, mlp_ratio=2, qkv_bias=False, **changed)  # type: ignore[arg-type]
        counts.append(sum(value.numel() for value in network.parameters()))
    assert counts == [2_756_744, 2_906_228]


def test_a_patch_is_stacked_with_its_four_diagonal_neighborhoods() -> None:
    embed = ShiftedPatchEmbed(img_size=8, patch_size=4, in_chans=1, embed_dim=3)
    images = torch.arange(1.0, 65.0).reshape(1, 1, 8, 8)
    stack = embed.shifted(images)[0]
    assert torch.equal(stack[0], images[0, 0])
    for copy, (down, right) in zip(stack[1:], [(2, 2), (2, -2), (-2, 2), (-2, -2)], strict=True):
        for row in range(8):
            for column in range(8):
                source = (row - down, column - right)
                inside = all(0 <= value < 8 for value in source)
                assert copy[row, column] == (images[0, 0][source] if inside else 0)


def test_tokens_are_those_of_the_authors_implementation() -> None:
    """Computed once with its `ShiftedPatchTokenization`; it orders the values of a patch differently."""
    embed = ShiftedPatchEmbed(img_size=16, patch_size=4, in_chans=3, embed_dim=24)
    fill(embed)
    with torch.no_grad():
        tokens = embed(wavy_images(2, 16))
    assert tokens.shape == (2, 16, 24)
    expected = torch.tensor([2.8321, 0.7322, 0.2617, 0.4347, 1.104, 1.6538])
    torch.testing.assert_close(tokens[1, ::3, 5], expected, atol=2e-4, rtol=1e-4)


def test_attention_is_that_of_the_authors_implementation() -> None:
    attention = LocalityAttention(24, num_heads=3)
    fill(attention)
    with torch.no_grad():
        out = attention(4 * wavy_images(2, 24)[:, 0, :17])
    expected = torch.tensor([-3.3434, -0.1065, 2.0817, 2.5572, -0.1109])
    torch.testing.assert_close(out[1, ::4, 5], expected, atol=2e-4, rtol=1e-4)


def test_no_token_attends_to_itself() -> None:
    attention = LocalityAttention(8, num_heads=2)
    tokens = torch.randn(1, 4, 8, requires_grad=True)
    torch.nn.init.zeros_(attention.qkv.weight[:16])  # equal scores: a mean over the others
    torch.nn.init.eye_(attention.proj.weight)
    out = attention(tokens)
    values = attention.qkv(tokens)[..., 16:]
    expected = (values.sum(dim=1, keepdim=True) - values) / 3 + attention.proj.bias
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize(("image", "patch"), [(100, 16), (99, 33)])
def test_patches_that_do_not_tile_the_image_or_have_no_half_are_refused(image: int, patch: int) -> None:
    with pytest.raises(ValueError, match=f"image size {image} is not a multiple of patch size {patch}"):
        ShiftedPatchEmbed(image, patch)


def test_one_network_takes_images_of_several_sizes() -> None:
    network = vit_small_spt(64, 0.1).eval()
    with torch.no_grad():
        assert network.as_map(network(torch.rand(1, 3, 96, 96))).shape == (1, 384, 6, 6)
