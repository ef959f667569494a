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
EPOCHS = 6
PHASES = f"[{{epochs: {EPOCHS}, lr: 1e-3, min_lr: 1e-5, warmup_epochs: 0.5, freeze: none}}]"
# Appended to the sessions of the copy: with HELD_AFTER=N, a session waits within epoch N + 1 until it is stopped.
HELD = """

def _held(should_stop):
    import os

    def held(session):
        after = os.environ.get("HELD_AFTER")
        while after and session.progress.epoch >= int(after) and not should_stop(session):
            time.sleep(0.01)
        return should_stop(session)

    return held

Session.should_stop = _held(Session.should_stop)
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source with an additional small backbone, and sessions that can be held."""
    root = copy_source(tmp_path_factory.mktemp("small"))
    models = root / "src" / "chexvision" / "models"
    shutil.copy(BACKBONE, models / "tiny.py")
    with (models.parent / "backbones.py").open("a") as registry:
        entry = 'BackboneFacts(builder="chexvision.models.tiny:tiny_backbone")'
        registry.write(f'\nBACKBONES["tiny"] = {entry}\n')
    with (models.parent / "runs" / "session.py").open("a") as session:
        session.write(HELD)
    return root


@pytest.fixture
def command(small: Path, synthetic_shards: Path) -> Words:
    """Start a command of that copy in its own process; a dispatch has EPOCHS of a few steps."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    env["PYTHONPATH"] = os.pathsep.join([str(small / "src"), str(small / "dispatch")])

    def run(*words: str, held_after: int | None = None) -> subprocess.Popen[str]:
        if words[0] == "--run-dir":
            overrides = [part for text in TINY[:-1] for part in ("--set", text)]
            words = ("dispatch", "--model", "scratch", "--on", "local", "--data", str(synthetic_shards), *overrides,
                     "--set", "training.patience=99", "--set", f"training.phases={PHASES}", *words)  # fmt: skip
        start = "import sys; from chexvision.cli import main; main(sys.argv[1:])"
        return subprocess.Popen(
            [sys.executable, "-u", "-c", start, *words],
            env=env if held_after is None else {**env, "HELD_AFTER": str(held_after)},
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
    uninterrupted = command("--run-dir", "uninterrupted")
    out, err = uninterrupted.communicate(timeout=300)
    assert uninterrupted.returncode == 0, out + err

    killed = command("--run-dir", "interrupted", held_after=2)
    wait_for(killed, "epoch 2/")
    progress = json.loads(Path("interrupted/working/progress.json").read_text())
    record = json.loads((records.runs_dir() / f"{progress['run_id']}.json").read_text())
    os.killpg(int(record["sessions"][0]["handle"]), signal.SIGKILL)
    _, err = killed.communicate(timeout=300)
    assert killed.returncode == 1
    assert "is failed: killed without warning" in err

    paused = command("runs", "resume", "-f", held_after=4)
    wait_for(paused, "epoch 4/")
    assert command("runs", "cancel", progress["run_id"]).wait(300) == 0
    out, err = paused.communicate(timeout=300)
    assert paused.returncode == 75, out + err
    assert json.loads(Path("interrupted/working/progress.json").read_text())["epoch"] == 4
    assert "epoch 1/" not in out

    out, err = (last := command("runs", "resume", "-f")).communicate(timeout=300)
    assert last.returncode == 0, out + err
    assert f"epoch {EPOCHS}/{EPOCHS}" in out
    assert "epoch 4/" not in out
    progress = json.loads(Path("interrupted/working/progress.json").read_text())
    assert (progress["session"], len(progress["points"])) == (3, EPOCHS)
    assert learned(Path("interrupted")) == learned(Path("uninterrupted"))


def wait_for(process: subprocess.Popen[str], beginning: str) -> None:
    """Read what it writes up to a line that begins so."""
    assert process.stdout is not None
    while not (line := process.stdout.readline()).startswith(beginning):
        assert line, process.communicate()
