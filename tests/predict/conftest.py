"""A published model and radiographs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from chexvision.cli import main
from tests.predict.tiny_model import publish

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published model. Read only."""
    return publish(tmp_path_factory.mktemp("published") / "tiny")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of 40 radiographs in three folders, of which two cannot be read."""
    folder = tmp_path / "images"
    random = np.random.default_rng(0)
    for number in range(40):
        path = folder / str(number % 3) / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), random.integers(0, 255, (80, 88), dtype=np.uint8))
    (folder / "1" / "07.png").write_text("not an image")
    whole = (folder / "2" / "20.png").read_bytes()
    (folder / "2" / "20.png").write_bytes(whole[:-30])
    return folder


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process: its exit code, and what it printed to stdout and stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        said = capfd.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run
