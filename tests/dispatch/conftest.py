"""A copy of the project with a stub for training, so that a complete run takes about one second."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from chexvision import retry
from chexvision.layout import PACKAGE_DIR, shared_dir
from chexvision_dispatch import bundle
from tests.dispatch.standin import STAND_IN, STAND_IN_EPOCHS, Cli, Result
from tests.fakes.fixtures import fake_hub, fake_kaggle

__all__ = ["fake_hub", "fake_kaggle"]

PRESET = bundle._PRESET
DISPATCH_DIR = Path(importlib.util.find_spec("chexvision_dispatch").origin).parent  # type: ignore[union-attr, arg-type]


def copy_source(root: Path) -> Path:
    """Copy the source tree to `root` with the layout of a checkout."""
    leave = shutil.ignore_patterns("__pycache__", "share")
    shutil.copytree(PACKAGE_DIR, root / "src" / "chexvision", ignore=leave)
    shutil.copytree(DISPATCH_DIR, root / "dispatch" / "chexvision_dispatch", ignore=leave)
    for name in ("configs", "kernels"):
        shutil.copytree(shared_dir(name), root / name, ignore=leave)
    return root


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source tree with the stub for training."""
    root = copy_source(tmp_path_factory.mktemp("checkout"))
    (root / "src" / "chexvision" / "__main__.py").write_text(STAND_IN)
    (root / "src" / "chexvision" / "standin.py").write_text(STAND_IN_EPOCHS)
    return root


@pytest.fixture
def entry() -> ModuleType:
    """The kernel's entry as a module."""
    spec = importlib.util.spec_from_file_location("kernel_entry", shared_dir("kernels") / "entry.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def isolated_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state folder and a working directory of the test, without credentials."""
    from huggingface_hub import constants

    for name in list(os.environ):
        if name.startswith(("KAGGLE_", "CHEXVISION_")) or name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    # Nothing listens there: requests that would reach the real Hub fail at once.
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(retry, "sleep", lambda seconds: None)
    monkeypatch.setattr(bundle, "_PRESET", 0)  # a tenth of the time for a third more bytes
    monkeypatch.setenv("CHEXVISION_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def packs_stand_in(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundles made in this process contain the stub."""
    monkeypatch.setattr("chexvision_dispatch.bundle.PACKAGE_DIR", checkout / "src" / "chexvision")


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder that is accepted as shards as long as they are not read."""
    folder = tmp_path / "shards"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "train-00000-of-00001.parquet").write_bytes(b"PAR1")
    return folder


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run a command line in this process."""
    from chexvision.cli import main

    def run(*words: str) -> Result:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        sys.stdout.flush()
        out, err = capfd.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Result(code, out, err)

    return run
