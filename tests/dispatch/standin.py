"""Shared by the tests of dispatch: a stub for training, a run record, a command's result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chexvision.errors import ChexError
from chexvision_dispatch.run_records import RunRecord

# Replaces `python -m chexvision train` in the copy: records its arguments, exits with the seed given by --set.
STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path

if sys.argv[1:2] != ["train"]:
    from chexvision.cli import main
    main()

def option(name):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else None

if "--private" in sys.argv and not option("--to"):
    sys.exit(2)  # as the command itself does

if "STANDIN_EPOCHS" in os.environ:
    from chexvision.errors import ChexError
    from chexvision.standin import train
    try:
        train(option)
    except ChexError as error:
        print("error:", error, file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit()

artifact = Path(option("--work")) / "artifact"
seen = {
    "argv": sys.argv[1:],
    "cwd": os.getcwd(),
    "module": __file__,
    "provenance": json.loads(Path(option("--provenance")).read_text()),
    "environment": sorted(os.environ),
    "caches": [os.environ["CHEXVISION_CACHE"], os.environ["HF_HOME"]],
    "has_token": "HF_TOKEN" in os.environ,
    "nccl_p2p_disable": os.environ.get("NCCL_P2P_DISABLE"),
}
print("token is", os.environ.get("HF_TOKEN"))
print("progress 1\\rprogress 2\\r", end="")
if Path("../input/wait").exists():
    def stop(number, frame):
        print("stopping on", signal.Signals(number).name)
        sys.exit(3)
    signal.signal(signal.SIGTERM, stop)
    print("waiting")
    for _ in range(3000):  # so that what a failing test leaves behind ends by itself
        time.sleep(0.01)
    sys.exit("no signal came")
artifact.mkdir()
(artifact / "seen.json").write_text(json.dumps(seen))
print("trained", file=sys.stderr)
if option("--exit"):
    sys.exit(int(option("--exit")))
seed = json.loads(Path(option("--recipe")).read_text())["training"]["seed"] if option("--recipe") else 42
sys.exit(0 if seed == 42 else seed)  # 42 is the recipe's own
"""

# `chexvision.standin` in the copy: epochs that compute nothing, inside a real session.
# Epoch N waits for the file N in the folder STANDIN_GATE, where that is set; the file "late" uses up the time budget.
# With STANDIN_SIGNALLED the script of the session gets SIGTERM when the run is complete.
STAND_IN_EPOCHS = """
import json, os, signal, sys, time
from pathlib import Path
from types import SimpleNamespace

from chexvision.artifact.contents import REQUIRED
from chexvision.hub.reference import RepoRef, parse_reference
from chexvision.runs.branch import RunBranch
from chexvision.artifact.store import open_store
from chexvision.training.training_session import TrainingProgress

def train(option):
    work, run_id = Path(option("--work")), json.loads(Path(option("--provenance")).read_text())["run_id"]
    to = parse_reference(option("--to")) if option("--to") else None
    private = "--private" in sys.argv
    branch = RunBranch(to.repo_id, run_id, private=private) if isinstance(to, RepoRef) else None
    hours = float(option("--max-hours")) if option("--max-hours") else None
    epochs, gate = int(os.environ["STANDIN_EPOCHS"]), os.environ.get("STANDIN_GATE")
    state = work / "state.pt"
    learned = json.loads(state.read_text()) if state.exists() else []

    def save():
        # Renamed, as the loop does: the upload of the last state continues during this.
        state.with_suffix(".new").write_text(json.dumps(learned))
        state.with_suffix(".new").replace(state)

    progress = TrainingProgress(work, run_id, max_hours=hours, branch=branch)
    with progress.session as session:
        for epoch in range(len(learned) + 1, epochs + 1):
            progress.epoch_begins(epochs)
            print("epoch", epoch, flush=True)
            while gate and not (Path(gate) / str(epoch)).exists() and not session.should_stop():
                if (Path(gate) / "late").exists():
                    session._deadline = 0.0
                time.sleep(0.01)
            if session.should_stop():
                save()
                session.paused()
                return
            learned.append(epoch)
            save()
            (work / "best.safetensors").write_text(f"weights {epoch}")
            progress.epoch_done([SimpleNamespace(epoch=epoch, train_loss=1 / epoch, validation_loss=1 / epoch,
                macro_auroc=0.5 + 0.01 * epoch, train_seconds=1.0, validation_seconds=0.1) for epoch in learned])
        artifact = work / "artifact"
        artifact.mkdir(exist_ok=True)
        for name in REQUIRED:
            (artifact / name).write_text(json.dumps({"name": name, "learned": learned}))
        (artifact / "README.md").write_text("# Model\\n\\n## Use\\n\\nin this folder\\n\\n## Limits\\n")
        progress.trained(artifact)
        session.published(open_store(to, private=private).publish(artifact, run_id).reference if to else None)
    print("trained")
    if "STANDIN_SIGNALLED" in os.environ:  # once all is done
        os.kill(os.getppid(), signal.SIGTERM)
        signal.pause()
"""

RECORD = RunRecord(
    run_id="densenet-20260101-1432-3f9c",
    target="local",
    model="densenet",
    preset=None,
    overrides=(),
    data="/shards",
    to=None,
    dispatched_at="2026-01-01T14:32:00+00:00",
    bundle_sha256="0" * 64,
    source_revision="1" * 40,
    source_dirty=False,
    folder="/runs",
)


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]


def raised(error: ChexError) -> None:
    """For `records.every`: a record that cannot be read fails the test."""
    raise error
