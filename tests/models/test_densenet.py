"""Our dense blocks compared with torchvision's."""

from __future__ import annotations

import weakref

import pytest
import torch
import torchvision
from torch import Tensor, nn

from chexvision.bench.alternatives import as_published
from chexvision.models.densenet import DenseBlock, densenet121


def torchvisions(ours: nn.Module) -> nn.Module:
    network: nn.Module = torchvision.models.densenet121(weights=None).features
    network.add_module("relu5", nn.ReLU(inplace=False))
    network.load_state_dict(ours.state_dict())
    return network


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("mixed", [False, True], ids=["fp32", "bf16"])
def test_outputs_and_gradients_are_the_bits_of_torchvision(memory_format: torch.memory_format, mixed: bool) -> None:
    torch.manual_seed(0)
    ours = densenet121(pretrained=False)
    assert [name for name, _ in ours.named_children()] == [name for name, _ in torchvisions(ours).named_children()]
    images = torch.rand(2, 3, 64, 64)
    found: list[list[Tensor]] = []
    for network in (torchvisions(ours), ours):
        network.train().to(memory_format=memory_format)
        x = images.clone(memory_format=torch.preserve_format).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            maps = network(x)
        maps.float().square().mean().backward()
        assert x.grad is not None
        gradients = [parameter.grad for parameter in network.parameters()]
        found.append([maps.detach(), x.grad, *(one for one in gradients if one is not None)])
        found[-1] += [buffer.clone() for buffer in network.buffers()]
    assert len(found[0]) == len(found[1])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_no_joined_map_is_kept_for_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    network = densenet121(pretrained=False)
    block = next(module for module in network.modules() if isinstance(module, DenseBlock)).train()
    x = torch.rand(2, 64, 16, 16, requires_grad=True)
    join, joined = torch.cat, []

    def remembered(maps: list[Tensor], dim: int) -> Tensor:
        result = join(maps, dim)
        joined.append(weakref.ref(result))
        return result

    monkeypatch.setattr(torch, "cat", remembered)
    y = block(x)
    assert [one() is not None for one in joined] == [False] * 6 + [True]
    assert joined.pop()() is y
    joined.clear()
    y = as_published(block)(x)
    assert all(one() is not None for one in joined)  # each is waiting for the backward pass
