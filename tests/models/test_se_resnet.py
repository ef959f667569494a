"""SE-ResNet-34 compared with its papers and torchvision's ResNet-34."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from chexvision.models.networks.se_resnet import SEBasicBlock, SEResNet, se_resnet18_slim, se_resnet34


def randomized(block: SEBasicBlock) -> SEBasicBlock:
    """In evaluation mode, with norms that are not the identity."""
    torch.manual_seed(3)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)  # type: ignore[arg-type]
    return block.eval()


def normalized(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)


@pytest.mark.parametrize(("inputs", "channels", "stride"), [(32, 32, 1), (16, 32, 2)])
def test_a_block_scales_its_channels_and_adds_the_shortcut(inputs: int, channels: int, stride: int) -> None:
    block = randomized(SEBasicBlock(inputs, channels, stride))
    x = torch.randn(2, inputs, 8, 8)
    y = F.relu(normalized(block.bn1, F.conv2d(x, block.conv1.weight, stride=stride, padding=1)))
    y = normalized(block.bn2, F.conv2d(y, block.conv2.weight, padding=1))
    hidden = F.relu(F.conv2d(y.mean(dim=(2, 3), keepdim=True), block.se.fc1.weight, block.se.fc1.bias))
    scale = torch.sigmoid(F.conv2d(hidden, block.se.fc2.weight, block.se.fc2.bias))
    assert hidden.shape[1] == channels // 16
    around = x
    if stride != 1:
        assert isinstance(block.shortcut, nn.Sequential)
        projection, norm = block.shortcut
        around = normalized(norm, F.conv2d(x, projection.weight, stride=stride))  # type: ignore[arg-type]
    torch.testing.assert_close(block(x), F.relu(y * scale + around))


def test_it_is_resnet_34_with_a_squeeze_excitation_in_every_block() -> None:
    ours, theirs = se_resnet34(224, 0.0), torchvision.models.resnet34(weights=None)

    def shapes(network: nn.Module) -> list[torch.Size]:
        return sorted(one.weight.shape for one in network.modules() if isinstance(one, nn.Conv2d))

    blocks = [one for one in ours.modules() if isinstance(one, SEBasicBlock)]
    widths = [64] * 3 + [128] * 4 + [256] * 6 + [512] * 3
    squeezes = [torch.Size(shape) for w in widths for shape in ((w // 16, w, 1, 1), (w, w // 16, 1, 1))]
    assert [block.conv2.out_channels for block in blocks] == widths
    assert shapes(ours) == sorted(shapes(theirs) + squeezes)


def test_weights_have_he_initialization() -> None:
    torch.manual_seed(0)
    network = SEResNet(depths=(1, 1, 1, 1), widths=(64, 128, 256, 512))
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            deviation = (2 / (9 * module.out_channels)) ** 0.5
            assert float(module.weight.detach().std()) == pytest.approx(deviation, rel=0.05)


def test_the_slim_network_has_an_eighth_of_the_parameters() -> None:
    sizes = [sum(of.numel() for of in build(64, 0.0).parameters()) for build in (se_resnet34, se_resnet18_slim)]
    assert sizes[1] / sizes[0] == pytest.approx(1 / 8, rel=0.1)
    assert se_resnet18_slim(64, 0.0)(torch.zeros(1, 3, 64, 64)).shape == (1, 256, 2, 2)
