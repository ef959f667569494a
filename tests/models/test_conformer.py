"""Conformer compared with its paper and with the authors' implementation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from timm.layers.drop import DropPath

from chexvision.errors import ChexError
from chexvision.models.networks.conformer import Conformer, conformer_base, conformer_small, conformer_tiny
from tests.models.filled import fill, wavy_images


def small() -> Conformer:
    return Conformer(ratio=1, width=24, heads=3).eval()


@pytest.mark.parametrize(
    ("build", "millions"), [(conformer_tiny, 23.5), (conformer_small, 37.7), (conformer_base, 83.3)]
)
def test_the_parameter_counts_are_those_of_the_paper(
    build: Callable[[int, float], Conformer], millions: float
) -> None:
    with torch.device("meta"):
        network = build(224, 0.1)
    classifiers = 1000 * (network.channels + 2)  # one per branch
    assert round((sum(value.numel() for value in network.parameters()) + classifiers) / 1e6, 1) == millions


def test_the_features_are_those_of_the_authors_implementation() -> None:
    """Computed once with github.com/pengzhiliang/Conformer, 815aaad, with the same formula for its parameters."""
    network = small()
    fill(network)
    with torch.no_grad():
        pooled = network.pool(network(wavy_images(2, 64)))[1]
    assert pooled.shape == (256 + 24,)
    expected_map = [0.0, 8.7166, 7.4152, 0.0, 0.0, 23.3394, 0.326, 0.0]
    expected_token = [0.2361, -0.809, 4.002, -0.2643, 0.8847, 0.4606, -1.6717, -0.9022]
    torch.testing.assert_close(pooled[:256:32], torch.tensor(expected_map), atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(pooled[256::3], torch.tensor(expected_token), atol=2e-4, rtol=1e-4)


def test_each_branch_depends_on_the_other() -> None:
    torch.manual_seed(0)
    network = small()
    features = network(torch.rand(1, 3, 32, 32))
    for output, layer in (
        (network.as_map(features), "conv_trans_12.trans_block.mlp.fc2"),
        (network.class_token(features), "conv_trans_11.cnn_block.conv1"),
    ):
        weight = network.get_parameter(f"{layer}.weight")
        (gradient,) = torch.autograd.grad(output.flatten()[::2].sum(), weight, retain_graph=True)
        assert float(gradient.abs().max()) > 1e-6, layer


def test_the_mean_of_the_features_is_the_pooled_vector() -> None:
    network = small()
    with torch.no_grad():
        features = network(torch.rand(2, 3, 80, 80))
    assert features.shape == (2, 280, 3, 3)
    torch.testing.assert_close(network.pool(features), features.mean(dim=(2, 3)))
    assert network.as_map(features).shape == (2, 256, 3, 3)
    assert network.class_token(features).shape == (2, 24)


def test_patch_tokens_become_a_map_without_the_class_token() -> None:
    tokens = torch.arange(2 * 5 * 3).reshape(2, 5, 3)
    made = small().as_map(tokens)
    assert made.shape == (2, 3, 2, 2)
    assert torch.equal(made[:, :, 1, 0], tokens[:, 3])


def test_stochastic_depth_grows_to_the_last_block() -> None:
    network = Conformer(ratio=1, width=24, heads=3, drop_path=0.2)
    rates = [module.drop_prob for module in network.modules() if isinstance(module, DropPath)]
    assert rates[-1] == pytest.approx(0.2)
    assert rates == sorted(rates) and rates[0] == rates[1] == pytest.approx(0.2 / 11)


def test_an_image_size_that_patches_do_not_tile_is_refused() -> None:
    with pytest.raises(ChexError, match="multiple of 16, not 100"):
        conformer_tiny(100, 0.0)
