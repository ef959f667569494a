"""What the heads sit on."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch

from chexvision.config.recipe import Pooling
from chexvision.errors import ChexError
from chexvision.images.preprocessing import Preprocessing
from chexvision.models.classifier import CheXVision

VIT = "timm/vit_tiny_patch16_224"


@pytest.mark.parametrize("pooling", get_args(Pooling))
def test_every_pooling_learns_and_round_trips(pooling: Pooling, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = CheXVision(VIT, 0, 0.0, preprocessing=Preprocessing(image_size=64), pooling=pooling).eval()
    images = torch.rand(2, 3, 64, 64)
    logits = model(images)["multilabel_logits"]
    torch.autograd.backward(logits.sum())
    assert all(parameter.grad is not None for parameter in model.pooling.parameters())
    model.save_pretrained(tmp_path)
    assert torch.equal(CheXVision.from_pretrained(tmp_path)(images)["multilabel_logits"], logits)


def test_poolings_of_tokens_are_those_of_their_definitions() -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 1 + 16, 192)
    pooled = {}
    for pooling in get_args(Pooling):
        model = CheXVision(VIT, 0, 0.0, preprocessing=Preprocessing(image_size=64), pooling=pooling).eval()
        pooled[pooling] = model.pooling(model.backbone, features)
        if pooling == "attention":
            scores = torch.stack([model.pooling.scores(features[:, i])[:, 0] for i in range(1, 17)], dim=1)
            attended = torch.einsum("bn,bnc->bc", scores.exp() / scores.exp().sum(1, keepdim=True), features[:, 1:])
    torch.testing.assert_close(pooled["network"], features[:, 0])
    torch.testing.assert_close(pooled["token"], features[:, 0])
    torch.testing.assert_close(pooled["average"], features[:, 1:].mean(dim=1))
    torch.testing.assert_close(pooled["attention"], attended)


def test_a_network_without_a_class_token_has_no_pooling_of_it() -> None:
    with pytest.raises(ChexError, match=r"no class token; set model\.pooling to network, average or attention"):
        CheXVision("se_resnet34", preprocessing=Preprocessing(image_size=64), pooling="token")
