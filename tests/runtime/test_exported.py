"""Exported files are those of the model next to them, in a folder and on the Hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import HfApi, snapshot_download

from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import sha256_of
from chexvision.hub.reference import RepoRef
from chexvision.inference.load_predictor import load_predictor
from chexvision.predict.published import read_published
from chexvision.runtime.export_info import INFO, MODEL
from chexvision.runtime.exported import find_export, is_exported
from chexvision.runtime.onnx_engine import OnnxEngine
from tests.fakes.hub import FakeHub
from tests.runtime.small_export import SIDE, expected, publish, published

REPO = "chex/small"


def _changed(folder: Path, **changes: Any) -> None:
    info = json.loads((folder / INFO).read_text())
    (folder / INFO).write_text(json.dumps({**info, **changes}))


def test_a_model_without_an_exported_file_has_none(tmp_path: Path) -> None:
    publish(tmp_path)
    (tmp_path / INFO).unlink()
    of = read_published(tmp_path)
    assert find_export(of) is None and not is_exported(of)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_changed_after_the_export_makes_it_stale(name: str, tmp_path: Path) -> None:
    of = published(tmp_path)
    assert find_export(of) is not None
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b" ")
    with pytest.raises(ChexError, match=f"was made of another {name}; export it again with chexvision export"):
        find_export(of)


def test_weights_that_are_gone_do_not_make_it_stale(tmp_path: Path) -> None:
    of = published(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert find_export(of) is not None


CHECK = [{"name": "features", "limit": 1.0, "message": "unlike the training images"}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": {}}, "does not name the weights"),
        ({"sources": {"../model.safetensors": "0"}}, "which is not a file of the model"),
        ({"sources": {"/etc/passwd": "0", "model.safetensors": "0"}}, "which is not a file of the model"),
        ({"checks": CHECK}, "has another input check"),
        ({"format": 2}, "format: Input should be 1, got 2"),
        ({"side": 10**9}, "side: "),
        ({"extra": 1}, "extra: "),
    ],
)
def test_a_description_that_does_not_fit_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    publish(tmp_path)
    _changed(tmp_path, **changes)
    with pytest.raises(ChexError, match=message) as raised:
        find_export(read_published(tmp_path))
    assert "\n" not in str(raised.value)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    of = published(tmp_path)
    (tmp_path / MODEL).write_bytes((tmp_path / MODEL).read_bytes()[:-1])
    with pytest.raises(ChexError, match="is damaged: it is not the file that"):
        find_export(of)
    (tmp_path / MODEL).unlink()
    with pytest.raises(ChexError, match=f"has {INFO} but no {MODEL}"):
        find_export(of)


def _pushed(folder: Path) -> RepoRef:
    api = HfApi()
    api.create_repo(REPO, exist_ok=True)
    return RepoRef(REPO, api.upload_folder(repo_id=REPO, folder_path=folder).oid)


def test_an_exported_model_on_the_hub_is_computed_without_its_weights(
    tmp_path: Path, fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = _pushed(publish(tmp_path / "model"))
    asked = len(fake_hub.requests)
    exported = find_export(read_published(reference))
    assert exported is not None
    fetched = [request for request in fake_hub.requests[asked:] if request.method == "GET"]
    sha256 = {name: sha256_of(tmp_path / "model" / name) for name in (MODEL, "model.safetensors")}
    assert any(sha256[MODEL] in request.path for request in fetched)
    assert not any(sha256["model.safetensors"] in request.path for request in fetched)
    image = np.random.default_rng(0).integers(0, 255, (1, SIDE, SIDE), np.uint8)
    engine = OnnxEngine(exported)
    raw = engine.run([engine.prepare(image[0])]).probabilities
    np.testing.assert_allclose(raw, expected(image)[0], atol=1e-6)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert find_export(read_published(reference)) == exported


def test_a_stale_export_on_the_hub_is_refused(tmp_path: Path, fake_hub: FakeHub) -> None:
    folder = publish(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"trained again")
    reference = _pushed(folder)
    with pytest.raises(ChexError, match=r"was made of another model\.safetensors"):
        find_export(read_published(reference))
    pulled = snapshot_download(REPO, revision=reference.revision, local_dir=tmp_path / "pulled")
    with pytest.raises(ChexError, match=r"was made of another model\.safetensors"):
        find_export(read_published(Path(pulled)))


def test_an_unknown_engine_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no engine 'tflite'; known are auto, torch, onnx, openvino"):
        load_predictor(publish(tmp_path), "tflite")  # type: ignore[arg-type]
