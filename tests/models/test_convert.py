"""Checkpoints of EVA-X, RAD-DINO and Medical MAE, small ones with the names of the published files."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from chexvision.backbones import BACKBONES
from chexvision.cli.train import weights
from chexvision.config.recipe import ModelConfig
from chexvision.errors import ChexError, UsageError
from chexvision.images.preprocessing import Preprocessing
from chexvision.models.build_backbone import build_backbone
from chexvision.models.classifier import CheXVision
from chexvision.models.convert import convert_checkpoint
from chexvision.models.initial_weights import apply_weights, fetch_weights
from chexvision.models.timm_backbone import TimmBackbone

Tensors = dict[str, Tensor]
EVA_X_NAMES = (
    ("mlp.fc1_g", "mlp.w1"), ("mlp.fc1_x", "mlp.w2"), ("mlp.fc2", "mlp.w3"), ("mlp.norm", "mlp.ffn_ln"),
    ("fc_norm", "norm"), ("q_proj.bias", "q_bias"), ("v_proj.bias", "v_bias"),
)  # fmt: skip
EVA_X_OTHERS = ("mask_token", "lm_head.weight", "lm_head.bias", "rope.freqs_cos", "blocks.0.attn.rope.freqs_sin")
DINOV2_NAMES = (
    ("patch_embed.proj", "embeddings.patch_embeddings.projection"), ("pos_embed", "embeddings.position_embeddings"),
    ("cls_token", "embeddings.cls_token"), ("blocks.", "encoder.layer."), (".attn.proj.", ".attention.output.dense."),
    (".ls1.gamma", ".layer_scale1.lambda1"), (".ls2.gamma", ".layer_scale2.lambda1"),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of two blocks; the names and shapes of a block are those of the whole network."""
    for name in ("eva_x_small", "eva_x_base", "rad_dino", "medmae_vit_small"):
        whole = BACKBONES[name]
        small = {"depth": 2, "embed_dim": 24, "num_heads": 2}
        monkeypatch.setitem(BACKBONES, name, replace(whole, arguments={**whole.arguments, **small}, input_size=224))


def random_of(network: TimmBackbone) -> Tensors:
    torch.manual_seed(3)
    return {name: torch.randn_like(value) for name, value in network.network.state_dict().items()}


def eva_x(state: Tensors) -> dict[str, object]:
    """As hustvl/EVA-X saves it: SwiGLU's w1, w2, w3 and its norm, the final norm before the mean, rotary tables."""
    renamed = {}
    for name, value in state.items():
        for ours, theirs in EVA_X_NAMES:
            name = name.replace(ours, theirs)
        renamed[name] = value
    extra = dict.fromkeys(EVA_X_OTHERS, torch.zeros(2))
    others = {"epoch": 600, "max_accuracy": np.float64(0.5), "args": argparse.Namespace(lr=1)}
    return {"model": {**renamed, **extra}, **others}


def dinov2(state: Tensors) -> Tensors:
    """As Hugging Face's Dinov2Model saves it."""
    renamed = {"embeddings.mask_token": torch.zeros(1, 24)}
    for name, value in state.items():
        for ours, theirs in DINOV2_NAMES:
            name = name.replace(ours, theirs)
        name = f"layernorm.{name[5:]}" if name.startswith("norm.") else name
        if ".attn.qkv." in name:
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                renamed[name.replace(".attn.qkv.", f".attention.attention.{part}.")] = third
        else:
            renamed[name] = value
    return renamed


def mae(state: Tensors) -> dict[str, object]:
    """As facebookresearch/mae saves its pre-training: a final norm over all tokens, and a decoder."""
    kept = {name: value for name, value in state.items() if not name.startswith("fc_norm")}
    decoder = {"mask_token": torch.zeros(1, 1, 16), "decoder_embed.weight": torch.zeros(16, 24),
               "norm.weight": torch.ones(24), "decoder_blocks.0.norm1.weight": torch.ones(16)}  # fmt: skip
    return {"model": {**kept, **decoder}, "optimizer": {"state": {}}, "epoch": 800, "args": argparse.Namespace()}


@pytest.mark.parametrize(
    ("backbone", "published", "missing"),
    [("eva_x_small", eva_x, []), ("eva_x_base", eva_x, []), ("rad_dino", dinov2, []),
     ("medmae_vit_small", mae, ["network.fc_norm.bias", "network.fc_norm.weight"])],
)  # fmt: skip
def test_published_names_become_ours_and_training_starts_from_them(
    backbone: str, published: Callable[[Tensors], object], missing: list[str], tmp_path: Path
) -> None:
    network = build_backbone(backbone, 224, 0.0)
    assert isinstance(network, TimmBackbone)
    state = random_of(network)
    source, out = tmp_path / "published.pt", tmp_path / "ours.safetensors"
    if backbone == "rad_dino":
        source = tmp_path / "model.safetensors"
        save_file({name: one.contiguous() for name, one in dinov2(state).items()}, source)
    else:
        torch.save(published(state), source)
    made = convert_checkpoint(source, out, backbone)
    converted = load_file(out)
    assert set(made.unused) >= ({*EVA_X_OTHERS} if published is eva_x else {"mask_token"})
    assert not any("blocks.1" in name for name in made.unused)
    assert made.tensors == len(converted) == len(state) - len(missing)
    assert all(torch.equal(value, state[name]) for name, value in converted.items())
    assert [f"network.{name}" for name in made.missing] == missing
    convert_checkpoint(source, tmp_path / "again.safetensors", backbone)
    assert out.read_bytes() == (tmp_path / "again.safetensors").read_bytes()
    with safe_open(out, framework="pt") as opened:
        about = json.loads(opened.metadata()["chexvision"])
    assert about == {"backbone": backbone, "license": BACKBONES[backbone].license, "source": source.name,
                     "source_sha256": made.source_sha256}  # fmt: skip
    model = CheXVision(backbone, 0, 0.0, preprocessing=Preprocessing(image_size=112))
    config = ModelConfig(backbone=backbone, weights=str(out), hidden_features=0, dropout=0.0)
    fetched = fetch_weights(config)
    assert fetched is not None
    report = apply_weights(model, fetched)
    assert report.resampled == ("network.pos_embed",) and sorted(report.random) == missing
    assert report.license == BACKBONES[backbone].license
    patches = model.backbone.state_dict()["network.patch_embed.proj.weight"]
    assert torch.equal(patches, state["patch_embed.proj.weight"])


class _Code:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, (f"touch {self.path}",))


def test_code_in_a_checkpoint_is_never_executed(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    torch.save({"model": {"a": torch.ones(2)}, "args": _Code(ran)}, tmp_path / "bad.pt")
    with pytest.raises(ChexError, match=r"bad\.pt has more than tensors in it \((posix|nt)\.system\)") as error:
        convert_checkpoint(tmp_path / "bad.pt", tmp_path / "out.safetensors", "eva_x_small")
    assert "\n" not in str(error.value)
    assert not ran.exists() and not (tmp_path / "out.safetensors").exists()
    script = f"import torch; torch.load({str(tmp_path / 'bad.pt')!r}, weights_only=False)"
    subprocess.run([sys.executable, "-c", script], check=True)
    assert ran.exists()  # it would have run


def test_checkpoints_that_cannot_be_converted_are_one_line_each(tmp_path: Path) -> None:
    source, out = tmp_path / "a.pt", tmp_path / "out.safetensors"
    with pytest.raises(UsageError, match="no file"):
        convert_checkpoint(source, out, "eva_x_small")
    source.write_bytes(b"not a checkpoint")
    with pytest.raises(ChexError, match=r"a\.pt (is damaged|is not a checkpoint of torch\.save)"):
        convert_checkpoint(source, out, "eva_x_small")
    torch.save({"epoch": 3}, source)
    with pytest.raises(ChexError, match="has no tensors by name"):
        convert_checkpoint(source, out, "eva_x_small")
    torch.save({"conv1.weight": torch.ones(3)}, source)
    with pytest.raises(ChexError, match="is not a checkpoint of rad_dino: 0 of its"):
        convert_checkpoint(source, out, "rad_dino")
    network = build_backbone("rad_dino", 224, 0.0)
    assert isinstance(network, TimmBackbone)
    state = random_of(network)
    for kind, stored in {
        "not stored one by one, first in cls_token": {name: one.to_sparse() for name, one in state.items()},
        "not stored one by one, first in pos_embed": state | {"pos_embed": state["pos_embed"].to("meta")},
        "is not a checkpoint of rad_dino: 0 of its": {name: one.long() for name, one in state.items()},
    }.items():
        torch.save(stored, source)
        with pytest.raises(ChexError, match=kind):
            convert_checkpoint(source, out, "rad_dino")
    state["cls_token"].fill_(float("inf"))
    torch.save(state, source)
    with pytest.raises(ChexError, match="values that are not finite, first in cls_token"):
        convert_checkpoint(source, out, "rad_dino")
    with pytest.raises(UsageError, match=r"out\.pt does not end in \.safetensors"):
        convert_checkpoint(source, tmp_path / "out.pt", "rad_dino")
    out.write_bytes(b"")
    with pytest.raises(UsageError, match="exists; name a new file"):
        convert_checkpoint(source, out, "rad_dino")


def test_the_command_prints_license_and_hashes(tmp_path: Path) -> None:
    network = build_backbone("eva_x_small", 224, 0.0)
    assert isinstance(network, TimmBackbone)
    torch.save(eva_x(random_of(network)), tmp_path / "a.pt")
    words = ["convert", str(tmp_path / "a.pt"), str(tmp_path / "a.safetensors"), "--backbone", "eva_x_small"]
    shown = CliRunner().invoke(weights, words)
    assert shown.exit_code == 0, shown.output
    assert "license: mit" in shown.output and "left out: blocks.0.attn.rope.freqs_sin, lm_head.bias" in shown.output
    assert "--set model.backbone=eva_x_small --set model.weights=" in shown.output


def test_a_checkpoint_that_is_cut_off_anywhere_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    for zipped in (True, False):
        torch.save({"conv1.weight": torch.ones(3)}, path, _use_new_zipfile_serialization=zipped)
        complete = path.read_bytes()
        for length in range(1, len(complete) - 16, 3):
            path.write_bytes(complete[:length])
            with pytest.raises(
                ChexError, match=r"a\.pt (is damaged: .|is not a checkpoint|has more than tensors|has no tensors)"
            ):
                convert_checkpoint(path, tmp_path / "out.safetensors", "eva_x_small")
