"""What the tests of dispatch share: a stand-in for training, a run's record, a command's result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chexvision_dispatch.records import RunRecord

# What `python -m chexvision train` is in the copy: it keeps what it was given, and exits with the seed.
STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path

if sys.argv[1:2] != ["train"]:
    from chexvision.cli import main
    main()

def option(name):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else None

artifact = Path(option("--work")) / "artifact"
seen = {
    "argv": sys.argv[1:],
    "cwd": os.getcwd(),
    "module": __file__,
    "provenance": json.loads(Path(option("--provenance")).read_text()),
    "environment": sorted(os.environ),
    "caches": [os.environ["CHEXVISION_CACHE"], os.environ["HF_HOME"]],
    "has_token": "HF_TOKEN" in os.environ,
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
    sys.exit("nobody asked for the end")
artifact.mkdir()
(artifact / "seen.json").write_text(json.dumps(seen))
print("trained", file=sys.stderr)
seed = [text for text in sys.argv if text.startswith("training.seed=")]
sys.exit(int(seed[0].partition("=")[2]) if seed else 0)
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
