"""The table of backbones compared with the networks that are built from it, and with timm's facts."""

from __future__ import annotations

import subprocess
import sys

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from chexvision.backbones import BACKBONES, facts, license_note, size_problem
from chexvision.errors import UsageError
from chexvision.models.build_backbone import build_backbone
from chexvision.models.normalize import mean_and_std
from chexvision.recipes import load_recipe

SHIPPED = {name: of for name, of in BACKBONES.items() if of.parameters is not None}
COUNTED = ("timm/densenet121.tv_in1k", "eva_x_small", "se_resnet34")  # of the GMACs; counting all takes a minute


@pytest.mark.parametrize("name", SHIPPED)
def test_parameters_and_sizes_are_the_networks(name: str) -> None:
    of = SHIPPED[name]
    smallest = -(-of.smallest // of.multiple) * of.multiple
    with torch.device("meta"):
        network = build_backbone(name, of.input_size or 224, 0.0)
        assert sum(parameter.numel() for parameter in network.parameters()) == of.parameters
        small = build_backbone(name, smallest, 0.0).eval()
        assert small.pool(small(torch.empty(1, 3, smallest, smallest))).shape == (1, network.channels)


@pytest.mark.parametrize("name", [name for name, of in SHIPPED.items() if of.timm and of.has_weights])
def test_mean_deviation_license_and_size_are_timms(name: str) -> None:
    of, known = SHIPPED[name], timm.get_pretrained_cfg(SHIPPED[name].timm)
    assert known is not None
    assert of.mean == pytest.approx(sum(known.mean) / 3, abs=1e-4)
    assert of.std == pytest.approx(sum(known.std) / 3, abs=1e-4)
    assert (of.license, of.input_size) == (known.license, known.input_size[1])


@pytest.mark.parametrize("name", COUNTED)
def test_operations_are_counted(name: str) -> None:
    of = SHIPPED[name]
    side = of.input_size or 224
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        network = build_backbone(name, side, 0.0).eval()
        network.pool(network(torch.empty(1, 3, side, side)))
    assert of.gmacs == pytest.approx(counter.get_total_flops() / 2e9, abs=0.01)


def test_a_network_outside_the_table_has_timms_mean_and_deviation() -> None:
    assert facts("timm/resnet10t.c3_in1k").mean is None
    assert mean_and_std("timm/resnet10t.c3_in1k") == pytest.approx((0.449, 0.226), abs=1e-4)
    assert mean_and_std("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k") == (0.5, 0.5)


@pytest.mark.parametrize(
    ("backbone", "size", "problem"),
    [
        ("timm/vit_base_patch16_224.augreg_in21k_ft_in1k", 250, "a multiple of 16, not 250; use 240 or 256"),
        ("rad_dino", 512, "a multiple of 14, not 512; use 504 or 518"),
        ("timm/inception_v3.tv_in1k", 64, "at least 75 pixels per side, not 64"),
    ],
)
def test_a_size_that_a_network_does_not_take_is_refused_with_the_recipe(
    backbone: str, size: int, problem: str
) -> None:
    assert problem in (size_problem(backbone, size) or "")
    settings = [f"model.backbone={backbone}", "model.weights=none", f"data.image_size={size}"]
    with pytest.raises(UsageError, match=problem.split(";")[0]):
        load_recipe("scratch", overrides=settings)


def test_a_network_of_one_size_is_not_resized_progressively() -> None:
    phase = "training.phases=[{epochs: 1, lr: 1e-3, min_lr: 0, warmup_epochs: 0, freeze: none, image_size: 64}]"
    settings = ["model.weights=none", "data.image_size=96", phase]
    swin, vit = (
        f"model.backbone=timm/{name}" for name in ("swin_tiny_patch4_window7_224.ms_in1k", "vit_tiny_patch16_224")
    )
    with pytest.raises(UsageError, match="takes images of one size; leave it out"):
        load_recipe("scratch", overrides=[swin, *settings])
    load_recipe("scratch", overrides=[vit, *settings])


def test_licenses_that_restrict_use_are_noted() -> None:
    assert SHIPPED["timm/convnextv2_tiny.fcmae_ft_in22k_in1k"].non_commercial
    assert license_note("of x", "apache-2.0") is None and license_note("of x", None) is None
    note = license_note("of x", "cc-by-nc-4.0") or ""
    assert note.startswith("the weights of x are under cc-by-nc-4.0, which forbids commercial use; so is a model")
    assert "has terms of its own" in (license_note("of x", "dinov3-license") or "")


def test_the_table_is_read_without_torch() -> None:
    code = "import chexvision.config.recipe, sys; assert not {'torch', 'timm', 'numpy'} & sys.modules.keys()"
    shown = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
