"""What all networks of this package provide: features, one vector, maps, and groups of parameters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from chexvision.errors import ChexError
from chexvision.images.preprocessing import Preprocessing
from chexvision.models.backbone import Backbone, grouped_parameters, tokens_as_map
from chexvision.models.classifier import CheXVision
from chexvision.models.networks.alexnet import AlexNet, alexnet
from chexvision.models.networks.conformer import Conformer
from chexvision.models.networks.dsan_cnn import DsanCnn, dsan_cnn
from chexvision.models.networks.se_resnet import SEResNet
from chexvision.models.networks.shifted_patches import vit_small_spt

NETWORKS: dict[str, Callable[[], Backbone]] = {
    "alexnet": AlexNet,
    "conformer": lambda: Conformer(ratio=1, width=24, heads=3),
    "dsan_cnn": DsanCnn,
    "se_resnet": lambda: SEResNet(depths=(1, 2, 1, 1), widths=(64, 128, 256, 512)),
}
every_network = pytest.mark.parametrize("name", sorted(NETWORKS))


@every_network
def test_features_are_pooled_into_one_vector_of_its_channels(name: str) -> None:
    network = NETWORKS[name]().eval()
    features = network(torch.rand(2, 3, 64, 64))
    assert network.pool(features).shape == (2, network.channels)
    assert network.as_map(features).ndim == 4


@every_network
def test_the_pooled_vector_depends_on_every_explained_layer(name: str) -> None:
    network = NETWORKS[name]().eval()
    outputs: dict[str, Tensor] = {}
    for layer in network.explained:
        network.get_submodule(layer).register_forward_hook(
            lambda _module, _inputs, output, layer=layer: outputs.update({layer: output})
        )
    pooled = network.pool(network(torch.rand(1, 3, 64, 64)))
    assert list(outputs) == list(network.explained)  # from the input to the output
    sizes = []
    for output in outputs.values():
        (gradient,) = torch.autograd.grad(pooled.sum(), output, retain_graph=True)
        assert bool((network.as_map(gradient) != 0).any())
        sizes.append(network.as_map(output).shape[2])
    assert sizes == sorted(sizes, reverse=True)


@every_network
@pytest.mark.parametrize("coarse", [True, False])
def test_every_parameter_is_in_one_group(name: str, coarse: bool) -> None:
    network = NETWORKS[name]()
    groups = network.layers(coarse=coarse)
    assert all(groups)
    names = [name for group in groups for name in group]
    assert sorted(names) == sorted(name for name, _ in network.named_parameters())
    assert len(network.layers(coarse=True)) <= len(groups)


@every_network
def test_gradients_of_a_later_group_do_not_need_an_earlier_one(name: str) -> None:
    """Groups are from the input to the output: with the first ones frozen, the rest is a connected network."""
    network = NETWORKS[name]().train()
    groups = network.layers(coarse=True)
    first = set(groups[0])
    for parameter_name, parameter in network.named_parameters():
        parameter.requires_grad_(parameter_name not in first)
    torch.autograd.backward(network.pool(network(torch.rand(2, 3, 64, 64))).square().sum())
    for parameter_name, parameter in network.named_parameters():
        assert (parameter.grad is None) == (parameter_name in first), parameter_name


@pytest.mark.parametrize("name", ["alexnet", "conformer_tiny", "dsan_cnn", "vit_small_spt"])
def test_a_model_of_a_registered_network_takes_images_of_its_size(name: str) -> None:
    model = CheXVision(backbone=name, preprocessing=Preprocessing(image_size=64)).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 3, 64, 64))["multilabel_logits"].shape == (1, 14)


def test_a_parameter_without_a_group_is_an_error() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"parameter 1\.weight is in no group"):
        grouped_parameters(network, [["0"]])


def test_tokens_that_tile_no_square_are_an_error() -> None:
    with pytest.raises(ValueError, match="6 tokens, of which 1 are not patches, do not tile a square"):
        tokens_as_map(torch.zeros(1, 6, 4), 1)


def test_the_dsan_cnn_has_the_studys_parameters() -> None:
    with torch.device("meta"):
        network = DsanCnn()
    outputs = 14 * (network.channels + 1)
    assert sum(value.numel() for value in network.parameters()) + outputs == 3_312_206  # the study: 3.3 million


def test_alexnet_is_torchvisions_up_to_the_classes() -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.alexnet().eval()
    ours = AlexNet().eval()
    ours.load_state_dict({name: value for name, value in theirs.state_dict().items() if "classifier.6" not in name})
    images = torch.rand(2, 3, 80, 80)
    with torch.no_grad():
        assert torch.equal(theirs.classifier[6](ours.pool(ours(images))), theirs(images))


def test_networks_without_shortcuts_refuse_stochastic_depth_and_too_small_images() -> None:
    for build in (alexnet, dsan_cnn):
        with pytest.raises(ChexError, match=r"set model\.drop_path to 0, not 0\.1"):
            build(224, 0.1)
    with pytest.raises(ChexError, match="multiple of 16, not 100"):
        vit_small_spt(100, 0.0)
    with pytest.raises(ChexError, match="63 pixels per side or more, not 62"):
        alexnet(62, 0.0)
    AlexNet()(torch.rand(1, 3, 63, 63))
