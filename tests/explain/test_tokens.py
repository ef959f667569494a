"""Grad-CAM on networks whose features are tokens, or maps with the channels last."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from chexvision.config.recipe import Pooling
from chexvision.inference.gradcam import explain_batch
from chexvision.models.classifier import CheXVision
from tests.explain.transformers import PATCH, SIDE, WIDTH, planted, taught, transformer

CELLS = SIDE // PATCH


def _images(count: int) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def _logits(model: CheXVision, images: Tensor) -> Tensor:
    return torch.cat(list(model(images).values()), dim=1)


@torch.no_grad()
def _central_difference(model: CheXVision, layer: nn.Module, images: Tensor, output: int) -> Tensor:
    """The derivative of a logit of one image by each channel, averaged over the patches: float[WIDTH]."""
    step = 1e-5
    found = []
    for channel in range(WIDTH):
        sides = []
        for sign in (1, -1):

            def moved(_module: object, _inputs: object, tokens: Tensor, *, by: float = sign * step) -> Tensor:
                tokens = tokens.clone()
                tokens[:, 1:, channel] += by  # noqa: B023  # called within the iteration
                return tokens

            hook = layer.register_forward_hook(moved)
            sides.append(_logits(model, images)[0, output])
            hook.remove()
        found.append((sides[0] - sides[1]) / (2 * step) / CELLS**2)
    return torch.stack(found)


def test_a_vision_transformers_map_equals_one_by_finite_differences() -> None:
    model = transformer("tiny_vit")
    images, output = _images(1), 3
    found = explain_batch(model, images, torch.tensor([[output]]))
    exact = deepcopy(model).double()
    layer = exact.backbone.get_submodule("network.blocks.2.norm1")
    weights = _central_difference(exact, layer, images.double(), output)
    tokens: list[Tensor] = []
    layer.register_forward_hook(lambda _module, _inputs, out: tokens.append(out.detach()))
    exact(images.double())
    patches = tokens[0][0, 1:]  # without the class token
    expected = (patches @ weights).clamp(min=0).reshape(CELLS, CELLS)  # row by row
    assert float(expected.max()) > 0
    assert found.method == "Grad-CAM"
    torch.testing.assert_close(found.values[0, 0].double(), expected, atol=1e-6, rtol=1e-3)


def test_a_network_with_channels_last_equals_cam() -> None:
    """Behind global average pooling and a linear head Grad-CAM is CAM: Zhou et al., CVPR 2016."""
    side = 64  # ends in 8x8 cells
    model = transformer("tiny_swin", side=side)
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    found = explain_batch(model, images, torch.tensor([[0, 14]] * 2))
    with torch.no_grad():
        features = model.backbone(images)
        assert features.shape == (2, 8, 8, 2 * WIDTH)
        weights = torch.stack([model.multilabel_head.weight[0], model.binary_head.weight[0]])
        expected = torch.einsum("mc,bhwc->bmhw", weights, features).clamp(min=0)
    assert found.method == "Grad-CAM"
    torch.testing.assert_close(found.values, expected / 8**2)


def test_a_coarse_last_map_with_channels_last_is_replaced_by_a_finer_one() -> None:
    found = explain_batch(transformer("tiny_swin"), _images(1), torch.tensor([[0]]))
    assert (found.method, found.values.shape) == ("LayerCAM", (1, 1, 8, 8))


@pytest.mark.parametrize("pooling", ["network", "average", "token", "attention"])
@pytest.mark.parametrize("name", ["tiny_vit", "tiny_eva"])
def test_a_map_is_of_tokens_that_the_heads_depend_on(name: str, pooling: Pooling) -> None:
    """A class token does not depend on what the last block does to the patch tokens, their mean does."""
    model = transformer(name, pooling)
    maps = explain_batch(model, _images(3), torch.tensor([list(range(15))] * 3)).values
    assert maps.shape == (3, 15, CELLS, CELLS)
    assert float((maps.amax(dim=(2, 3)) > 0).float().mean()) > 0.5  # some may be lowered everywhere


@pytest.mark.parametrize(("name", "pooling"), [("tiny_vit", "token"), ("tiny_eva", "average")])
def test_a_trained_transformer_points_at_a_planted_patch_and_an_untrained_one_does_not(
    name: str, pooling: Pooling
) -> None:
    images, present, corners = planted(80, seed=2)  # not those of training
    images, corners = images[present == 1], corners[present == 1]

    def hits(model: CheXVision) -> float:
        maps = explain_batch(model, model.normalize(images), torch.tensor([[0]] * len(images))).values
        best = maps[:, 0].flatten(1).argmax(dim=1)
        distance = torch.stack([best // CELLS, best % CELLS], dim=1) - corners
        return float(((distance >= 0) & (distance <= 1)).all(dim=1).float().mean())

    untrained = transformer(name, pooling)
    assert hits(untrained) < 0.4
    assert hits(taught(untrained, steps=40)) >= 0.9
