"""Which parameters learn under each value of `freeze`, and what frozen modules do in training."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from chexvision.errors import UsageError
from chexvision.images.preprocessing import Preprocessing
from chexvision.models.classifier import CheXVision

# A linear layer of 14 outputs on ResNet-50, of the DSAN study, with our binary head on the same 2048 features.
BINARY_HEAD = 2048 + 1
DSAN = {"all": 28_686, "partial": 14_993_422, "none": 23_536_718}


def learning(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def test_a_resnet_learns_as_many_parameters_as_in_the_dsan_study() -> None:
    with torch.device("meta"):
        model = CheXVision("timm/resnet50.a1_in1k", hidden_features=0)
    for what, count in DSAN.items():
        model.freeze(what)
        assert learning(model) == count + BINARY_HEAD
    # ViT-B/16: 10,766 of 85,809,422.
    with torch.device("meta"):
        model = CheXVision("timm/vit_base_patch16_224", 0, preprocessing=Preprocessing(image_size=224))
    model.freeze("all")
    assert learning(model) == 10_766 + 768 + 1
    assert sum(parameter.numel() for parameter in model.parameters()) == 85_809_422 + 768 + 1


def test_a_number_freezes_the_stem_and_the_next_stages() -> None:
    model = CheXVision("timm/resnet10t", 0, drop_path=0.2, preprocessing=Preprocessing(image_size=64))
    model.train()
    model.freeze(2)
    network = model.backbone.get_submodule("network")
    frozen = [name for name, parameter in model.backbone.named_parameters() if not parameter.requires_grad]
    assert {name.split(".")[1] for name in frozen} == {"conv1", "bn1", "layer1"}
    before = {name: value.clone() for name, value in model.state_dict().items() if "running" in name}
    model.train()
    model(torch.rand(2, 3, 64, 64))
    changed = {name for name, value in before.items() if not torch.equal(value, model.state_dict()[name])}
    assert changed == {name for name in before if ".layer" in name and ".layer1." not in name}
    assert not any(module.training for module in network.get_submodule("layer1").modules())  # drop path as well
    assert all(module.training for module in network.get_submodule("layer2").modules())
    model.freeze("partial")
    assert [name for name in ("layer1", "layer2", "layer3", "layer4") if network.get_submodule(name).training] == [
        "layer4"
    ]
    model.freeze("none")
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())
    model.eval()
    model.freeze("none")
    assert not any(module.training for module in model.modules())


def test_more_stages_than_the_network_has_are_refused() -> None:
    model = CheXVision("se_resnet34", 0)
    model.freeze(5)
    assert learning(model.backbone) == 0
    with pytest.raises(UsageError, match=r"6 stages cannot be frozen: se_resnet34 has 5, the stem included"):
        model.freeze(6)
