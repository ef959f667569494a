"""Models that were saved when DenseNet-121 was torchvision's."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from chexvision.labels import NIH
from chexvision.models.classifier import CheXVision
from chexvision.models.untrained import build_model
from chexvision.recipes import load_recipe


def test_a_densenet_of_format_2_predicts_the_same_bits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    features = torchvision.models.densenet121().features.eval()
    hidden, findings, binary = nn.Linear(1024, 8), nn.Linear(8, 14), nn.Linear(8, 1)
    parts = {"backbone": features, "neck.0": hidden, "multilabel_head": findings, "binary_head": binary}
    weights = {f"{part}.{name}": v for part, module in parts.items() for name, v in module.state_dict().items()}
    save_file(weights, tmp_path / "model.safetensors")
    config = {
        "format": 2, "backbone": "densenet121", "hidden_features": 8, "dropout": 0.3,
        "label_space": {"findings": NIH.findings, "normal": "No Finding", "abnormal": "Abnormal"},
        "preprocessing": {"image_size": 64},
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = CheXVision.from_pretrained(tmp_path)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        pooled = functional.relu(hidden(functional.relu(features(images)).mean(dim=(2, 3), keepdim=True).flatten(1)))
        assert torch.equal(model(images)["multilabel_logits"], findings(pooled))
        assert torch.equal(model(images)["binary_logits"], binary(pooled))
    model.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["backbone"] == "timm/densenet121.tv_in1k"
    assert torch.equal(CheXVision.from_pretrained(tmp_path / "again")(images)["binary_logits"], binary(pooled))


def test_a_densenet_of_a_seed_has_the_weights_that_torchvisions_would_have() -> None:
    changes = ["model.weights=none", "model.hidden_features=512", "training.seed=4"]
    model = build_model(load_recipe("densenet", overrides=changes))
    torch.manual_seed(4)
    network = torchvision.models.densenet121()
    hidden = nn.Linear(1024, 512)
    for name, value in network.features.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[f"network.features.{name}"], value), name
    assert torch.equal(model.state_dict()["neck.0.weight"], hidden.weight)
