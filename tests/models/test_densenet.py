"""DenseNet-121 as torchvision computes it, up to a feature map whose gradients can be taken."""

from __future__ import annotations

import torch
import torchvision
from torch import nn
from torch.nn import functional

from chexvision.models.densenet import densenet121


def test_state_dict_and_outputs_match_torchvision() -> None:
    torch.manual_seed(0)
    ours = densenet121(pretrained=False).eval()
    theirs = torchvision.models.densenet121(weights=None).features.eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        maps = ours(images)
        assert maps.shape == (2, 1024, 2, 2)
        assert torch.equal(maps, functional.relu(theirs(images)))


def test_gradients_at_the_feature_map_are_available() -> None:
    network = densenet121(pretrained=False).train()
    assert isinstance(network, nn.Sequential)
    before = network[:-1](torch.rand(2, 3, 64, 64))
    before.retain_grad()
    network[-1](before).sum().backward()
    assert before.grad is not None
    assert torch.equal(before.grad, (before > 0).float())
