"""Activations of named layers: `explain --layers`."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from timm.models.vision_transformer import VisionTransformer

from chexvision.errors import UsageError
from chexvision.explain.activations import _as_map, explain_layers, find_layers, layer_activations, strongest_channels
from chexvision.explain.overlay import render_gray_tile
from chexvision.images.radiograph import Grey
from chexvision.models.classifier import CheXVision
from chexvision.models.timm_backbone import TimmBackbone
from tests.explain.test_commands import chexvision
from tests.explain.trained import SIDE
from tests.explain.transformers import PATCH, WIDTH, transformer


def _image(side: int = SIDE) -> Grey:
    return np.random.default_rng(0).integers(0, 255, (side, side), dtype=np.uint8)


def test_activations_are_what_the_layer_returns_in_evaluation_mode(untrained: CheXVision) -> None:
    untrained.train()
    image = _image()
    found = layer_activations(untrained, image, {"0": "0"})["0"]
    assert untrained.training
    weight = untrained.backbone.get_parameter("0.weight")
    with torch.no_grad():
        expected = F.conv2d(untrained.normalize(torch.from_numpy(image[None])), weight, stride=2, padding=2)[0]
    np.testing.assert_array_equal(found, expected.numpy())
    assert not any(module._forward_hooks for module in untrained.modules())


def test_tokens_and_maps_of_both_memory_layouts_are_shown_alike() -> None:
    cells = 32 // PATCH
    for network, layers in {
        "tiny_vit": {"patch_embed.proj": (WIDTH, cells), "blocks.1": (WIDTH, cells), "blocks.2.mlp.fc1": (64, cells)},
        "tiny_swin": {"patch_embed.proj": (WIDTH, cells), "layers.0": (WIDTH, cells), "layers.1": (64, cells // 2)},
    }.items():
        model = transformer(network)
        found = layer_activations(model, _image(32), find_layers(model.backbone, list(layers)))
        assert {name: of.shape for name, of in found.items()} == {
            name: (channels, side, side) for name, (channels, side) in layers.items()
        }


def test_patches_with_the_channels_last_are_shown_also_where_the_network_has_tokens() -> None:
    network = VisionTransformer(
        img_size=32, patch_size=PATCH, embed_dim=WIDTH, depth=1, num_heads=2, dynamic_img_size=True
    )
    patches = network.patch_embed(torch.rand(1, 3, 32, 32))
    assert patches.shape == (1, 32 // PATCH, 32 // PATCH, WIDTH)
    torch.testing.assert_close(_as_map(TimmBackbone(network), patches, "patch_embed"), patches.permute(0, 3, 1, 2))


def test_a_map_with_as_many_channels_as_cells_per_side_has_the_layout_of_its_network(untrained: CheXVision) -> None:
    cube = torch.rand(1, 8, 8, 8)
    torch.testing.assert_close(_as_map(untrained.backbone, cube, "0"), cube)
    torch.testing.assert_close(_as_map(transformer("tiny_swin").backbone, cube, "0"), cube.permute(0, 3, 1, 2))


def test_a_position_of_the_map_is_the_same_position_of_the_image() -> None:
    image = np.zeros((32, 32), np.uint8)
    image[:PATCH, -PATCH:] = 255  # the patch at the top right
    for network, layer in (
        ("tiny_vit", "patch_embed"),
        ("tiny_vit", "patch_embed.proj"),
        ("tiny_swin", "patch_embed"),
    ):
        model = transformer(network)
        activation = layer_activations(model, image, find_layers(model.backbone, [layer]))[layer]
        other = activation[:, 4, 4]
        differs = np.abs(activation - other[:, None, None]).max(axis=0) > 1e-6
        assert np.argwhere(differs).tolist() == [[0, 7]]


@pytest.mark.parametrize(
    ("network", "name", "message"),
    [
        ("small", "conv9", "those at the top are 0, 1, 2"),
        ("tiny_vit", "blocks.7", "did you mean blocks.2?"),
        ("tiny_vit", "fc_norm", "fc_norm returns 32 values for an image, not a map per channel"),
        ("tiny_vit", "blocks.0.attn.q_norm", "2x65x16 values for an image, not a map per channel"),
        ("tiny_swin", "layers.0.blocks.0.attn.qkv", "16x96 values for an image, not a map per channel"),
        ("tiny_swin", "layers.0.blocks.0.attn.softmax", "2x16x16 values for an image, not a map per channel"),
    ],
)
def test_layers_that_cannot_be_shown_are_named(network: str, name: str, message: str, untrained: CheXVision) -> None:
    model = untrained if network == "small" else transformer(network)
    with pytest.raises(UsageError) as error:
        layer_activations(model, _image(model.preprocessing.image_size), find_layers(model.backbone, [name]))
    assert message in str(error.value)


def test_channels_are_ordered_by_how_much_they_vary() -> None:
    activation = np.stack([np.full((2, 2), 9.0), [[0, 1], [0, 1]], [[0, 5], [0, 0]], [[0, 1], [0, 1]]])
    assert strongest_channels(activation.astype(np.float32), 3) == [2, 1, 3]


def test_a_tile_reaches_from_black_to_white_and_keeps_the_cells() -> None:
    values = np.array([[-2.0, 0.0], [1.0, 2.0]], np.float32)
    pixels = np.asarray(render_gray_tile(values, "channel 3", 64).convert("L"))[:64]
    assert [int(pixels[y, x]) for y, x in ((5, 5), (5, 60), (60, 5), (60, 60))] == [0, 128, 191, 255]
    assert len(np.unique(pixels)) == 4
    constant = np.asarray(render_gray_tile(np.full((2, 2), 7.0, np.float32), "", 64).convert("L"))[:64]
    assert constant.max() == 0


def test_the_command_writes_one_sheet_per_image_and_layer(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [tmp_path / f"0000000{number}_000.png" for number in (1, 2)]
    for number, path in enumerate(images):
        cv2.imwrite(str(path), np.random.default_rng(number).integers(0, 255, (100, 80), dtype=np.uint8))
    out = tmp_path / "out"
    assert chexvision("explain", model_folder, *images, "--out", out, "--layers", "2, 6") == 0
    names = [f"{path.stem}-{layer}.png" for path in images for layer in (2, 6)]
    assert capsys.readouterr().out.split() == [str(out / name) for name in names]
    assert {path.name for path in out.iterdir()} == set(names)
    with Image.open(out / names[0]) as sheet:
        # 16 channels, the image and the mean in three rows of eight.
        assert sheet.width == 8 * 176 + 16
        pixels = np.asarray(sheet.convert("L"))
    assert pixels[46:206, 16:176].std() > 30


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--layers", "2,layer9"), "--layers 'layer9' is not a layer of this network"),
        (("--layers", "2", "--top", "2"), "exclude each other"),
        (("--layers", "2", "--finding", "Mass"), "exclude each other"),
    ],
)
def test_invalid_requests_report_one_line_and_write_nothing(
    words: tuple[str, ...], message: str, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "a.png"
    cv2.imwrite(str(image), _image())
    assert chexvision("explain", model_folder, image, "--out", tmp_path / "out", *words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_images_of_one_name_are_refused(untrained: CheXVision, tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "x.png", tmp_path / "b" / "x.png"]
    with pytest.raises(UsageError, match="would share their overlays' names"):
        explain_layers(untrained, paths, tmp_path / "out", ["0"])
