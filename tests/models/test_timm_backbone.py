"""Networks of timm as backbones."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from chexvision.errors import ChexError
from chexvision.models.timm_backbone import known_network, timm_backbone

# One network of each family, with the side of small images that it takes.
FAMILIES = {
    "resnet10t": 64,
    "densenet121.tv_in1k": 64,
    "vit_tiny_patch16_224": 64,
    "swin_tiny_patch4_window7_224": 64,
    "convnext_atto": 64,
    "tf_efficientnet_b0": 64,
    "inception_v3": 96,
    "eva02_tiny_patch14_224": 56,
    "coatnet_nano_rw_224": 64,
}


@pytest.mark.parametrize(("name", "side"), FAMILIES.items())
def test_outputs_are_timms_and_explained_modules_lead_to_them(name: str, side: int) -> None:
    torch.manual_seed(0)
    backbone = timm_backbone(name, {}, side, 0.0).eval()
    arguments: dict[str, Any] = {"img_size": side} if known_network(name).fixed_input_size else {}
    theirs: nn.Module = timm.create_model(name, num_classes=0, **arguments).eval()
    theirs.load_state_dict(backbone.network.state_dict())
    images = torch.rand(2, 3, side, side)
    outputs: dict[str, torch.Tensor] = {}
    for one in backbone.explained:
        backbone.get_submodule(one).register_forward_hook(
            lambda _module, _inputs, output, one=one: outputs.__setitem__(one, output)
        )
    features = backbone(images)
    pooled = backbone.pool(features)
    assert torch.equal(pooled, theirs(images))
    assert pooled.shape == (2, backbone.channels)
    maps = [backbone.as_map(output) for output in outputs.values()]
    assert list(outputs) == list(backbone.explained)
    assert all(one.ndim == 4 and one.shape[2] == one.shape[3] for one in maps)
    if features.ndim == 4:
        assert outputs[backbone.explained[-1]] is features
    gradients = torch.autograd.grad(pooled.square().sum(), list(outputs.values()))
    assert all(bool(one.abs().sum() > 0) for one in gradients)
    for coarse in (True, False):
        groups = backbone.layers(coarse=coarse)
        names = [one for group in groups for one in group]
        assert all(groups) and len(set(names)) == len(names)
        assert not coarse or set(names) == {one for one, _ in backbone.named_parameters()}


@pytest.mark.parametrize(("name", "stages"), [("resnet50", 5), ("densenet121", 5), ("vit_tiny_patch16_224", 13)])
def test_stages_are_the_stem_and_timms_stages(name: str, stages: int) -> None:
    with torch.device("meta"):
        assert len(timm_backbone(name, {}, 224, 0.0).layers(coarse=True)) == stages


def test_a_network_that_timm_lacks_is_named_with_its_nearest() -> None:
    with pytest.raises(ChexError, match=r"has no network 'resnet5O'; the nearest are timm/resnet5"):
        timm_backbone("resnet5O", {}, 224, 0.0)
    with pytest.raises(ChexError, match=r"has no weights 'tv_in2k' of densenet121; known are .*tv_in1k"):
        timm_backbone("densenet121.tv_in2k", {}, 224, 0.0)
    with pytest.raises(ChexError, match=r"densenet121 has no drop path; set model\.drop_path=0"):
        timm_backbone("densenet121", {}, 64, 0.1)


def test_patches_may_have_one_number_as_their_size() -> None:
    with torch.device("meta"):
        assert timm_backbone("xcit_nano_12_p16_224", {}, 224, 0.0).channels == 128
    with pytest.raises(ChexError, match="cannot be built for images of 230 pixels"):
        timm_backbone("xcit_nano_12_p16_224", {}, 230, 0.0)
