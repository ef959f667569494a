from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from chexvision.config.data_config import ClaheConfig
from chexvision.config.recipe import Pooling
from chexvision.errors import ChexError, UsageError
from chexvision.images.preprocessing import Preprocessing
from chexvision.labels import NIH, LabelSpace
from chexvision.models.classifier import CheXVision
from chexvision.models.untrained import build_model
from chexvision.recipes import load_recipe

SHIPPED = ["se_resnet34", "timm/densenet121.tv_in1k"]


@pytest.mark.parametrize("backbone", SHIPPED)
def test_every_backbone_returns_logits_of_both_heads(backbone: str) -> None:
    model = CheXVision(backbone=backbone).eval()
    logits = model(torch.rand(2, 3, 64, 64))
    assert {name: tuple(of.shape) for name, of in logits.items()} == {
        "multilabel_logits": (2, 14),
        "binary_logits": (2, 1),
    }
    assert model.backbone(torch.rand(1, 3, 64, 64)).shape == (1, model.backbone.channels, 2, 2)


def test_a_hidden_layer_is_built_where_the_recipe_has_one() -> None:
    densenet = build_model(load_recipe("densenet", overrides=["model.weights=none", "model.hidden_features=512"]))
    scratch = build_model(load_recipe("scratch"))
    assert [(m.in_features, m.out_features) for m in densenet.modules() if isinstance(m, nn.Linear)] == [
        (1024, 512),
        (512, 14),
        (512, 1),
    ]
    assert [(m.in_features, m.out_features) for m in scratch.modules() if isinstance(m, nn.Linear)] == [
        (512, 14),
        (512, 1),
    ]
    assert [m.p for m in scratch.modules() if isinstance(m, nn.Dropout)] == [0.5]


def test_gradients_reach_a_hook_on_the_feature_map() -> None:
    """An in-place operation after the feature map would raise here."""
    for backbone in SHIPPED:
        model = CheXVision(backbone=backbone)
        features = model.backbone(torch.rand(2, 3, 64, 64))
        features.retain_grad()
        torch.autograd.backward(model.head(features)["multilabel_logits"].sum())
        assert features.grad is not None and bool(features.grad.abs().sum() > 0)


def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    first, again, other = (
        build_model(load_recipe("scratch", overrides=[f"training.seed={seed}"])) for seed in (1, 1, 2)
    )
    weights = [torch.cat([p.flatten() for p in model.parameters()]) for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_frozen_backbone_keeps_its_weights_and_norm_statistics() -> None:
    model = CheXVision(backbone="timm/densenet121.tv_in1k")
    model.freeze("all")
    model.train()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    model(torch.rand(4, 3, 64, 64))["binary_logits"].sum().backward()
    assert all(torch.equal(before[name], value) for name, value in model.backbone.state_dict().items())
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert model.neck.training
    model.freeze("none")
    assert model.backbone.training and all(parameter.requires_grad for parameter in model.parameters())


def test_a_saved_model_round_trips_bit_for_bit_with_its_preprocessing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clahe = ClaheConfig(enabled=False, clip_limit=2.0, tiles=8)
    preprocessing = Preprocessing(shard_size=128, image_size=96, clahe=clahe, mean=0.5, std=0.25)
    model = CheXVision(backbone="se_resnet34", hidden_features=0, dropout=0.5, preprocessing=preprocessing).eval()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["label_space"] == {"findings": list(NIH.findings), "normal": "No Finding", "abnormal": "Abnormal"}
    assert config["format"] == 3
    assert config["preprocessing"] == {
        "shard_size": 128,
        "image_size": 96,
        "interpolation": "area",
        "clahe": {"enabled": False, "clip_limit": 2.0, "tiles": 8},
        "mean": 0.5,
        "std": 0.25,
    }
    loaded = CheXVision.from_pretrained(tmp_path)
    images = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(model(images)["multilabel_logits"], loaded(images)["multilabel_logits"])
    assert loaded.preprocessing == preprocessing
    assert not loaded.training
    assert capfd.readouterr().out == ""


def test_a_config_without_a_format_number_is_read(tmp_path: Path) -> None:
    model = CheXVision(backbone="se_resnet34", hidden_features=0).eval()
    model.save_pretrained(tmp_path)
    old = {
        "backbone": "se_resnet34", "clahe_clip_limit": 0, "clahe_tiles": 8, "dropout": 0.3,
        "findings": list(NIH.findings), "hidden_features": 0, "image_size": 96, "something_else": True,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(old))
    loaded = CheXVision.from_pretrained(tmp_path)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
    made = loaded.preprocessing
    assert (made.shard_size, made.image_size, made.clahe.enabled) == (None, 96, False)
    assert (made.mean, made.std) == (0.449, 0.226)
    loaded.save_pretrained(tmp_path)
    assert CheXVision.from_pretrained(tmp_path).preprocessing == made


def test_a_config_of_format_1_keeps_the_findings_it_names(tmp_path: Path) -> None:
    small = LabelSpace(findings=("Mass", "Nodule"))
    model = CheXVision(backbone="se_resnet34", hidden_features=0, label_space=small).eval()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["label_space"]
    (tmp_path / "config.json").write_text(json.dumps(config | {"format": 1, "findings": ["Mass", "Nodule"]}))
    loaded = CheXVision.from_pretrained(tmp_path)
    assert loaded.label_space == small
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images)["multilabel_logits"], loaded(images)["multilabel_logits"])


def test_a_config_of_format_1_may_name_a_finding_as_the_normal_label(tmp_path: Path) -> None:
    CheXVision(backbone="se_resnet34", hidden_features=0).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["label_space"]
    names = [*NIH.findings[:13], "No Finding"]
    (tmp_path / "config.json").write_text(json.dumps(config | {"format": 1, "findings": names}))
    assert CheXVision.from_pretrained(tmp_path).findings == tuple(names)


def test_images_are_normalized_by_the_models_own_mean_and_deviation() -> None:
    model = CheXVision(backbone="se_resnet34", preprocessing=Preprocessing(mean=0.25, std=0.5))
    images = torch.tensor([[[0, 255]]], dtype=torch.uint8)
    assert model.normalize(images).tolist() == [[[[-0.5, 1.5]]] * 3]


@pytest.mark.parametrize("name", ["./nope", "/no/such/folder", "a/b/c"])
def test_folder_that_does_not_exist_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match="no model folder"):
        CheXVision.from_pretrained(name)


def test_pickled_weights_are_never_loaded(tmp_path: Path) -> None:
    model = CheXVision(backbone="se_resnet34", hidden_features=0)
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ChexError, match=r"no model\.safetensors"):
        CheXVision.from_pretrained(tmp_path)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    CheXVision(backbone="se_resnet34", hidden_features=0).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_features": 32}))
    with pytest.raises(ChexError, match="does not contain this model's weights"):
        CheXVision.from_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ChexError, match=r"no config\.json"):
        CheXVision.from_pretrained(tmp_path)


def test_a_network_that_the_weights_are_not_of_takes_no_memory(tmp_path: Path) -> None:
    """`config.json` may name networks of gigabytes next to a file of a few values."""
    CheXVision("se_resnet18_slim", 0, preprocessing=Preprocessing(image_size=64)).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"backbone": "timm/vit_large_patch16_224"}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ChexError, match=r"does not contain this model's weights: .* is missing"):
        CheXVision.from_pretrained(tmp_path)
    in_kilobytes = 1 if sys.platform == "linux" else 1024
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / in_kilobytes < 400_000  # of 1,213,000


@pytest.mark.parametrize(
    ("backbone", "size", "pooling"),
    [
        ("timm/bat_resnext26ts", 224, "network"),  # asserts the size of a map
        ("timm/caformer_s18", 224, "network"),  # has no groups of layers
        ("timm/coatnet_0_rw_224", 100, "network"),  # windows that do not tile the map
        ("timm/coat_lite_tiny", 224, "average"),  # tokens that are not of patches
    ],
)
def test_networks_of_timm_that_cannot_be_used_are_one_line(
    backbone: str, size: int, pooling: Pooling, tmp_path: Path
) -> None:
    CheXVision("se_resnet18_slim", 0, preprocessing=Preprocessing(image_size=size)).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"backbone": backbone, "pooling": pooling}))
    with pytest.raises(
        ChexError, match=rf"^{backbone} cannot be used with images of {size} pixels and {pooling} pool"
    ):
        CheXVision.from_pretrained(tmp_path)


def test_a_phase_that_freezes_too_much_is_refused_before_the_first_one() -> None:
    phase = "epochs: 1, lr: 1e-3, min_lr: 1e-5, warmup_epochs: 0"
    phases = f"training.phases=[{{{phase}, freeze: 5}}, {{{phase}, freeze: 6}}]"
    with pytest.raises(UsageError, match=r"6 stages cannot be frozen: se_resnet18_slim has 5"):
        build_model(load_recipe("scratch", overrides=["model.backbone=se_resnet18_slim", phases]))
