"""The completion protocol of the shells, as Typer's scripts speak it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("chexvision"))


def completed(words: str, tmp_path: Path) -> list[str]:
    """What bash is offered for the last word of `words`."""
    (tmp_path / "runs").mkdir(exist_ok=True)
    (tmp_path / "runs" / "densenet-20260101-1432-0001.json").touch()
    environment = {
        **os.environ,
        "CHEXVISION_STATE": str(tmp_path),
        "_CHEXVISION_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    done = subprocess.run([COMMAND], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("chexvision sh", ["shards"]),
        ("chexvision shards synth", ["synthesize"]),
        ("chexvision dispatch --model gatech-r", ["gatech-resnet152"]),
        ("chexvision dispatch --model densenet --preset s", ["smoke"]),
        ("chexvision train --model de", ["densenet"]),
        ("chexvision runs status dense", ["densenet-20260101-1432-0001"]),
    ],
)
def test_bash_completes_names(words: str, offered: list[str], tmp_path: Path) -> None:
    found = completed(words, tmp_path)
    assert found == offered


def test_completion_can_be_installed_and_shown() -> None:
    done = subprocess.run([COMMAND, "--help"], capture_output=True, text=True, check=True)
    assert "--install-completion" in done.stdout
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown = subprocess.run(
        [COMMAND, "--show-completion", "bash"], env=environment, capture_output=True, text=True, check=True
    )
    assert "_CHEXVISION_COMPLETE=complete_bash" in shown.stdout
