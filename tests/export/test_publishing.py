from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from chexvision.artifact.contents import CARD
from chexvision.errors import ChexError
from chexvision.export import run_export as module
from chexvision.export.run_export import run_export
from chexvision.files.json_files import read_record
from chexvision.hub.reference import RepoRef
from chexvision.report.card_parts import with_exported
from chexvision.runtime.export_info import INFO, MODEL, QUANTIZED, ExportInfo
from chexvision.training.result.artifact_folder import exported
from tests.fakes.hub import FakeHub

REPO = "chex/model"
_CARD = "# A model\n\n## Exported files\n\nNone.\n\n## Limits\n\nMany.\n"


@pytest.fixture
def on_hub(model: Path, fake_hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """The model on a Hub, with a file of an earlier export; exporting it gives the files that it was exported to."""
    folder = tmp_path / "uploaded"
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("onnx"))
    (folder / CARD).write_text(_CARD)
    (folder / "onnx").mkdir()
    (folder / QUANTIZED).write_bytes(b"stale")
    api = HfApi()
    api.create_repo(REPO)
    api.upload_folder(repo_id=REPO, folder_path=folder)

    def exported(_: object, out: Path, *__: object) -> ExportInfo:
        shutil.copytree(model / "onnx", out / "onnx")
        return read_record(out / INFO, ExportInfo)

    monkeypatch.setattr(module, "export_model", exported)
    return fake_hub


def test_one_commit_replaces_the_exported_files_and_updates_the_card(model: Path, on_hub: FakeHub) -> None:
    before = len(on_hub.commits(REPO))
    made = run_export(RepoRef(REPO), RepoRef(REPO), (), False, None)
    assert len(on_hub.commits(REPO)) == before + 1
    assert on_hub.read(REPO, MODEL) == (model / MODEL).read_bytes()
    assert QUANTIZED not in HfApi().list_repo_files(REPO)
    assert f"| {MODEL} | " in on_hub.read(REPO, CARD).decode()
    assert made.address.endswith(f"/{REPO}/tree/{HfApi().repo_info(REPO).sha}/onnx")


def test_the_files_of_one_model_are_not_added_to_another(model: Path, on_hub: FakeHub, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(model, other)
    HfApi().upload_file(repo_id=REPO, path_in_repo="calibration.json", path_or_fileobj=b"{}")
    with pytest.raises(ChexError, match=r"has another calibration\.json than the exported model"):
        run_export(other, RepoRef(REPO), (), False, None)


def test_a_run_whose_export_fails_keeps_its_artifact_and_says_why(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such\noperator")

    monkeypatch.setattr("chexvision.export.export_model.export_model", fail)
    made = exported(tmp_path, "chex/model")
    assert made == "no such operator"
    assert "published without onnx/model.onnx: no such operator" in caplog.text
    assert "**the export failed** (no such operator)" in with_exported(_CARD, made)
