"""Weights that training starts from: every source, what fits of them, and every way in which they cannot be used."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file
from torch import nn

from chexvision.config.recipe import ModelConfig
from chexvision.errors import ChexError, UsageError
from chexvision.images.preprocessing import Preprocessing
from chexvision.labels import LabelSpace
from chexvision.models.classifier import CheXVision
from chexvision.models.initial_weights import apply_weights, fetch_weights
from tests.fakes.fixtures import HUB_TOKEN
from tests.fakes.hub import FakeHub

SMALL = "timm/resnet10t.c3_in1k"
VIT = "timm/vit_tiny_patch16_224"


def config(backbone: str, weights: object) -> ModelConfig:
    return ModelConfig(backbone=backbone, weights=str(weights), hidden_features=0, dropout=0.0)


def model_of(backbone: str, size: int = 64, findings: tuple[str, ...] = ("Mass", "Nodule")) -> CheXVision:
    torch.manual_seed(1)
    return CheXVision(backbone, 0, 0.0, LabelSpace(findings=findings), Preprocessing(image_size=size))


def network_of(name: str, **arguments: int) -> nn.Module:
    torch.manual_seed(2)
    network: nn.Module = timm.create_model(name.removeprefix("timm/"), **arguments)  # type: ignore[arg-type]
    return network


def loaded(model: CheXVision, network: nn.Module) -> bool:
    state = model.backbone.get_submodule("network").state_dict()
    return all(torch.equal(value, network.state_dict()[name]) for name, value in state.items())


def test_imagenet_is_what_timm_publishes_under_the_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_of(SMALL)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    with FakeHub(tmp_path / "hub", HUB_TOKEN, user="timm") as hub:
        hub.environment(monkeypatch, HUB_TOKEN)
        with pytest.raises(ChexError, match=r"the Hub has no model timm/resnet10t.*model\.weights=none"):
            fetch_weights(config(SMALL, "imagenet"))
        repo = SMALL
        HfApi().create_repo(repo)
        sha = (
            HfApi()
            .upload_file(
                path_or_fileobj=tmp_path / "model.safetensors", path_in_repo="model.safetensors", repo_id=repo
            )
            .oid
        )
        model = model_of(SMALL)
        fetched = fetch_weights(config(SMALL, "imagenet"))
    assert fetched is not None
    report = apply_weights(model, fetched)
    assert loaded(model, network)
    assert report.source == f"{SMALL}@{sha}:model.safetensors"
    assert report.matched == report.total and report.unused == ("fc.bias", "fc.weight")
    assert report.license == "apache-2.0"
    assert report.line() == (
        f"{report.source}: {report.total} of {report.total} tensors of the backbone; not used: fc.bias and 1 more"
    )


def test_embeddings_of_another_size_are_resampled_and_missing_tensors_named(tmp_path: Path) -> None:
    network = network_of(VIT, img_size=32)
    state = {name: value for name, value in network.state_dict().items() if name != "norm.bias"}
    save_file(state, tmp_path / "vit.safetensors")
    model = model_of(VIT, size=64)
    fetched = fetch_weights(config(VIT, tmp_path / "vit.safetensors"))
    assert fetched is not None
    report = apply_weights(model, fetched)
    assert report.resampled == ("network.pos_embed",)
    assert report.random == {"network.norm.bias": "not in the file"}
    assert (report.source, report.matched, report.total) == ("vit.safetensors", 149, 150)
    ours = model.backbone.get_submodule("network")
    theirs = timm.create_model(
        "vit_tiny_patch16_224", img_size=64, num_classes=0, pretrained=True,
        pretrained_cfg_overlay={"state_dict": network.state_dict()},
    )  # fmt: skip
    assert torch.equal(ours.state_dict()["pos_embed"], theirs.state_dict()["pos_embed"])
    assert "left random: network.norm.bias (not in the file)" in report.line()


def test_a_published_model_gives_its_backbone_and_the_heads_of_equal_findings(tmp_path: Path) -> None:
    published = model_of(SMALL, findings=("Edema", "Nodule", "Mass"))
    nn.init.normal_(published.multilabel_head.bias)
    folder = tmp_path / "scratch-0.1"  # no suffix of a file
    published.save_pretrained(folder)
    model = model_of(SMALL, findings=("Mass", "Hernia", "Nodule"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    before = model.multilabel_head.weight[1].clone()
    fetched = fetch_weights(config(SMALL, folder))
    assert fetched is not None
    report = apply_weights(model, fetched)
    assert report.matched == report.total
    assert (report.heads, report.heads_skipped) == (("Mass", "Nodule", "Abnormal"), "not known there: Hernia")
    for part in ("weight", "bias"):
        rows, theirs = getattr(model.multilabel_head, part), getattr(published.multilabel_head, part)
        assert torch.equal(rows[0], theirs[2]) and torch.equal(rows[2], theirs[1])
        assert torch.equal(getattr(model.binary_head, part), getattr(published.binary_head, part))
    assert torch.equal(model.multilabel_head.weight[1], before)
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(model.eval().backbone(images), published.eval().backbone(images))


@pytest.mark.parametrize("where", ["folder", "hub"])
def test_the_license_of_the_first_weights_stays_through_fine_tuning(
    where: str, fake_hub: FakeHub, tmp_path: Path
) -> None:
    model_of(SMALL).save_pretrained(tmp_path)
    source = str(tmp_path)
    for record, license in (
        ("[" * 100_000, None),
        ('{"weights": null}', None),
        ('{"weights": {"license": "cc-by-nc-4.0"}}', "cc-by-nc-4.0"),
    ):
        (tmp_path / "run.json").write_text(record)
        if where == "hub":
            HfApi().create_repo("chex/model", exist_ok=True)
            commit = HfApi().upload_folder(repo_id="chex/model", folder_path=tmp_path)
            source = f"chex/model@{commit.oid}:model.safetensors"
        fetched = fetch_weights(config(SMALL, source))
        assert fetched is not None
        assert apply_weights(model_of(SMALL), fetched).license == license


def test_heads_after_other_layers_are_skipped(tmp_path: Path) -> None:
    CheXVision(SMALL, 8, 0.0, LabelSpace(findings=("Mass",)), Preprocessing(image_size=64)).save_pretrained(tmp_path)
    fetched = fetch_weights(config(SMALL, tmp_path / "model.safetensors"))
    assert fetched is not None
    report = apply_weights(model_of(SMALL), fetched)
    assert (report.heads, report.heads_skipped) == ((), "the layers before them are others")
    (tmp_path / "config.json").unlink()
    fetched = fetch_weights(config(SMALL, tmp_path / "model.safetensors"))
    assert fetched is not None
    assert apply_weights(model_of(SMALL), fetched).heads_skipped == "no config.json says which findings they are of"


def test_a_file_of_a_repository_is_named_by_its_commit(fake_hub: FakeHub, tmp_path: Path) -> None:
    model_of(SMALL).save_pretrained(tmp_path)
    HfApi().create_repo("chex/model")
    sha = HfApi().upload_folder(folder_path=tmp_path, repo_id="chex/model").oid
    fetched = fetch_weights(config(SMALL, f"chex/model@{sha}:model.safetensors"))
    assert fetched is not None and fetched.config is not None
    assert apply_weights(model_of(SMALL), fetched).heads == ("Mass", "Nodule", "Abnormal")
    with pytest.raises(ChexError, match=r"has no file other\.safetensors"):
        fetch_weights(config(SMALL, f"chex/model@{sha}:other.safetensors"))
    for unpinned in ("chex/model@main:model.safetensors", "chex/model:model.safetensors"):
        with pytest.raises(ValueError, match="does not name a commit; write USER/REPO@<40-hex commit>:FILE"):
            config(SMALL, unpinned)


@pytest.mark.parametrize("name", ["eva_x_small_patch16_merged520k_mim.pt", "model.bin", "weights.ckpt"])
def test_pickled_weights_are_refused_before_anything_is_read(name: str) -> None:
    with pytest.raises(ValueError, match=r"pickled weights are never loaded; convert it once: chexvision weights"):
        config(SMALL, name)


def test_files_that_cannot_be_used_are_one_line_each(tmp_path: Path) -> None:
    def refused(problem: str, backbone: str = SMALL) -> None:
        with pytest.raises(ChexError, match=problem) as caught:
            fetched = fetch_weights(config(backbone, path))
            assert fetched is not None
            apply_weights(model_of(backbone), fetched)
        assert "\n" not in str(caught.value)

    path = tmp_path / "weights.safetensors"
    with pytest.raises(UsageError, match="no file"):
        fetch_weights(config(SMALL, path))
    path.write_bytes(pickle.dumps({"a": 1}))
    refused("weights.safetensors is a pickled file, which is never loaded; convert it once")
    torch.save({"a": torch.ones(1)}, path)
    refused("is a pickled file")
    path.write_bytes(b"\x01" * 40)
    refused("not a complete safetensors file .*; fetch it again")
    save_file({"fc.weight": torch.tensor([1.0, float("nan")])}, path)
    refused(r"values that are not finite, first in fc\.weight")
    save_file({"encoder.weight": torch.ones(2)}, path)
    refused(r"nothing in weights\.safetensors fits timm/resnet10t\.c3_in1k: it has encoder\.weight")
    save_file(network_of("timm/resnet18").state_dict(), path)
    refused(r"weights\.safetensors is of another network than timm/resnet10t")
    save_file({"a": torch.ones(2)}, path, metadata={"chexvision": json.dumps({"backbone": "eva_x_small"})})
    refused("has the weights of eva_x_small, not of timm/resnet10t.c3_in1k; set model.backbone=eva_x_small")
    model_of("se_resnet34").save_pretrained(tmp_path / "other")
    path = tmp_path / "other" / "model.safetensors"
    refused("has the weights of se_resnet34, not of")
    # Another tag names the same network.
    config_json = tmp_path / "other" / "config.json"
    model_of(SMALL).save_pretrained(tmp_path / "other")
    config_json.write_text(json.dumps(json.loads(config_json.read_text()) | {"backbone": "timm/resnet10t"}))
    assert fetch_weights(config(SMALL, path)) is not None


def test_weights_of_a_model_whose_files_do_not_belong_together_are_no_traceback(tmp_path: Path) -> None:
    model_of(SMALL, findings=("Mass", "Nodule")).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    complete = load_file(path)
    for name, changed in {
        "multilabel_head.weight": None,
        "multilabel_head.bias": torch.ones(1),
        "binary_head.weight": torch.ones(2, 512),
    }.items():
        save_file({key: value for key, value in (complete | {name: changed}).items() if value is not None}, path)
        fetched = fetch_weights(config(SMALL, path))
        assert fetched is not None
        report = apply_weights(model_of(SMALL), fetched)
        assert report.heads == () and report.heads_skipped.startswith(f"{name} is not that of")
    (tmp_path / "config.json").write_text("[" * 100_000)
    fetched = fetch_weights(config(SMALL, path))
    assert fetched is not None and fetched.config is None


def test_values_and_types_that_the_network_cannot_hold_are_not_taken(tmp_path: Path) -> None:
    state = network_of(SMALL).state_dict()
    path = tmp_path / "weights.safetensors"
    save_file(state | {"fc.bias": torch.full((1000,), 1e300, dtype=torch.float64)}, path)
    with pytest.raises(ChexError, match=r"not finite, first in fc\.bias"):
        fetch_weights(config(SMALL, path))
    save_file(state | {"bn1.weight": state["bn1.weight"].to(torch.complex64)}, path)
    fetched = fetch_weights(config(SMALL, path))
    assert fetched is not None
    assert "network.bn1.weight" in apply_weights(model_of(SMALL), fetched).random


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "7", json.dumps({"license": "mit\n---\n# Owned", "backbone": "x" * 200})]
)
def test_metadata_of_an_untrusted_file_reaches_no_card(text: str, tmp_path: Path) -> None:
    save_file(network_of(SMALL).state_dict(), tmp_path / "w.safetensors", metadata={"chexvision": text})
    fetched = fetch_weights(config(SMALL, tmp_path / "w.safetensors"))
    assert fetched is not None and fetched.license is None
