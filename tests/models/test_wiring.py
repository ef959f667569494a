"""How the parts of the classifier are connected, and which recipe values its config.json contains."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from chexvision.models.classifier import CheXVision
from chexvision.models.untrained import build_model
from chexvision.recipes import load_recipe
from tests.training import runs


def test_pooled_features_go_through_the_hidden_layer_to_both_heads() -> None:
    assert runs  # registers the tiny backbone
    torch.manual_seed(0)
    model = CheXVision(backbone="tiny", hidden_features=6, dropout=0.4).eval()
    images = torch.randn(3, 3, 32, 32)
    hidden = next(one for one in model.neck if isinstance(one, nn.Linear))
    before = F.linear(model.backbone(images).mean(dim=(2, 3)), hidden.weight, hidden.bias)
    assert bool((before < 0).any())
    logits = model(images)
    for head, name in ((model.multilabel_head, "multilabel_logits"), (model.binary_head, "binary_logits")):
        torch.testing.assert_close(logits[name], F.linear(before.relu(), head.weight, head.bias))


def test_dropout_rate_is_the_recipes() -> None:
    model = CheXVision(backbone="tiny", hidden_features=0, dropout=0.4).train()
    dropped = model.neck(torch.ones(200, 16)) == 0
    assert float(dropped.float().mean()) == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize("enabled", [True, False])
def test_a_model_stores_the_size_and_equalization_of_its_recipe(enabled: bool) -> None:
    settings = [f"data.clahe.enabled={str(enabled).lower()}", "data.clahe.clip_limit=3.5", "data.clahe.tiles=4"]
    recipe = load_recipe("scratch", overrides=["model.backbone=tiny", "data.image_size=96", *settings])
    model = build_model(recipe)
    assert model.preprocessing.image_size == 96
    assert model.preprocessing.clahe == recipe.data.clahe
    assert model.preprocessing.clahe.enabled == enabled
