"""Untrusted files through the real commands: one error line, no hang, nothing written outside.

Each test names its own input; `refuses` runs the command in this process and checks all of that.
"""

from __future__ import annotations

import faulthandler
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from chexvision.cli import main
from chexvision.labels import NIH
from tests.shards.conftest import Release

_HANGS_S = 300  # generous: a command that reads a FIFO waits forever
Refuses = Callable[..., str]


@pytest.fixture(autouse=True)
def _watchdog() -> Iterator[None]:
    """Ends this process with its thread stacks if a command hangs."""
    faulthandler.dump_traceback_later(_HANGS_S, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the commands, the only folder that they may write to; its parent is checked."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return folder


@pytest.fixture
def nih(tmp_path: Path) -> Release:
    """A small copy of the release's layout."""
    return Release(tmp_path / "nih")


@pytest.fixture
def refuses(tmp_path: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> Refuses:
    """Run a command that must fail; returns its one error line."""

    def run(*words: object, codes: tuple[int, ...] = (1, 2)) -> str:
        before = _listed(tmp_path)
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        sys.stdout.flush()
        said = capfd.readouterr()
        assert ended.value.code in codes, said
        assert "Traceback" not in said.out + said.err
        errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, said.err
        assert said.err.splitlines()[-1] == errors[0]
        assert len(errors[0]) < 1000, errors[0]
        assert _listed(tmp_path) == before
        return errors[0]

    return run


@pytest.fixture(scope="session")
def complete_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as it is published: weights, calibration and thresholds."""
    import torch

    import tests.training.runs  # noqa: F401 - registers the backbone "tiny"
    from chexvision.images.preprocessing import Preprocessing
    from chexvision.metrics.calibration import Calibration, Curve
    from chexvision.metrics.thresholds import ChosenOn, Thresholds
    from chexvision.models.classifier import CheXVision

    folder = tmp_path_factory.mktemp("complete_model") / "model"
    torch.manual_seed(0)
    CheXVision(backbone="tiny", hidden_features=0, preprocessing=Preprocessing(image_size=32)).save_pretrained(folder)
    where = ChosenOn(dataset="d", split="validation", images=3, images_sha256="0" * 64)
    curves: dict[str, Curve | None] = {name: Curve(slope=1.0, intercept=-1.0) for name in NIH.outputs}
    calibration = Calibration(method="platt", chosen_on=where, curves=curves)
    thresholds = Thresholds(
        rule="f1", scale="calibrated", chosen_on=where, values=dict.fromkeys(NIH.outputs, 0.5), positives={}
    )
    (folder / "calibration.json").write_text(calibration.model_dump_json())
    (folder / "thresholds.json").write_text(thresholds.model_dump_json())
    return folder


@pytest.fixture
def workspace(complete_model: Path, here: Path) -> Path:
    """The working directory of a user: a model and an image; a file above it."""
    shutil.copytree(complete_model, here / "model")
    cv2.imwrite(str(here / "chest.png"), np.random.default_rng(0).integers(0, 255, (40, 40), dtype=np.uint8))
    (here.parent / "diary.png").write_bytes(b"precious")
    return here


def _listed(folder: Path) -> list[tuple[str, int]]:
    """Everything below `folder` with its size, except in the writable folder."""
    listed = []
    for root, folders, files in os.walk(folder):
        if Path(root) == folder / "here" / "work":
            folders.clear()
            continue
        listed += [(f"{root}/{name}", os.lstat(f"{root}/{name}").st_size) for name in files]
        listed += [(f"{root}/{name}", 0) for name in folders if name != "work"]
    return sorted(listed)
