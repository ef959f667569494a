"""Local runs with real training, interrupted by signals: a resumed run equals an uninterrupted one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chexvision_dispatch import run_records as records
from tests.dispatch.conftest import copy_source
from tests.training.runs import TINY, figures

Words = Callable[..., "subprocess.Popen[str]"]
BACKBONE = Path(__file__).parent.parent / "small_backbones.py"
EPOCHS = "training.phases=[{epochs: %d, lr: 1e-3, min_lr: 1e-5, warmup_epochs: 0.5, freeze: none}]"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source with an additional small backbone."""
    root = copy_source(tmp_path_factory.mktemp("small"))
    models = root / "src" / "chexvision" / "models"
    shutil.copy(BACKBONE, models / "tiny.py")
    with (models.parent / "backbones.py").open("a") as registry:
        entry = 'BackboneFacts(builder="chexvision.models.tiny:tiny_backbone")'
        registry.write(f'\nBACKBONES["tiny"] = {entry}\n')
    return root


@pytest.fixture
def command(small: Path, synthetic_shards: Path) -> Words:
    """Start a command of that copy in its own process; a dispatch has `epochs` of a few steps."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    env["PYTHONPATH"] = os.pathsep.join([str(small / "src"), str(small / "dispatch")])

    def run(*words: str, epochs: int | None = None) -> subprocess.Popen[str]:
        if epochs is not None:
            overrides = [part for text in TINY[:-1] for part in ("--set", text)]
            words = ("dispatch", "--model", "scratch", "--on", "local", "--data", str(synthetic_shards), *overrides,
                     "--set", "training.patience=99", "--set", EPOCHS % epochs, *words)  # fmt: skip
        start = "import sys; from chexvision.cli import main; main(sys.argv[1:])"
        return subprocess.Popen(
            [sys.executable, "-u", "-c", start, *words],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return run


def learned(run: Path) -> tuple[bytes, list[dict[str, object]]]:
    """The weights' file and the history of a run, without its times."""
    from chexvision.training.history import read_history

    artifact = run / "working" / "artifact"
    history = read_history((artifact / "history.json").read_bytes())
    return (artifact / "model.safetensors").read_bytes(), figures(history)


def test_run_killed_mid_epoch_and_then_paused_equals_an_uninterrupted_run(command: Words) -> None:
    epochs = 25
    uninterrupted = command("--run-dir", "uninterrupted", epochs=epochs)
    out, err = uninterrupted.communicate(timeout=120)
    assert uninterrupted.returncode == 0, out + err

    killed = command("--run-dir", "interrupted", epochs=epochs)
    wait_for(killed, "epoch 5/")
    progress = json.loads(Path("interrupted/working/progress.json").read_text())
    record = json.loads((records.runs_dir() / f"{progress['run_id']}.json").read_text())
    os.killpg(int(record["sessions"][0]["handle"]), signal.SIGKILL)
    _, err = killed.communicate(timeout=60)
    assert killed.returncode == 1
    assert "is failed: killed without warning" in err

    paused = command("runs", "resume", "-f")
    wait_for(paused, "epoch 8/")
    assert command("runs", "cancel", progress["run_id"]).wait(30) == 0
    out, err = paused.communicate(timeout=60)
    assert paused.returncode == 75, out + err
    assert json.loads(Path("interrupted/working/progress.json").read_text())["epoch"] < epochs
    assert "epoch 1/" not in out

    out, err = (last := command("runs", "resume", "-f")).communicate(timeout=120)
    assert last.returncode == 0, out + err
    assert f"epoch {epochs}/{epochs}" in out
    assert "epoch 8/" not in out
    progress = json.loads(Path("interrupted/working/progress.json").read_text())
    assert (progress["session"], len(progress["points"])) == (3, epochs)
    assert learned(Path("interrupted")) == learned(Path("uninterrupted"))


def wait_for(process: subprocess.Popen[str], beginning: str) -> None:
    """Read what it writes up to a line that begins so."""
    assert process.stdout is not None
    while not (line := process.stdout.readline()).startswith(beginning):
        assert line, process.communicate()
