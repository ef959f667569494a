"""This machine: the script in a process of its own, in a folder laid out as on Kaggle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import platformdirs

from chexvision.provenance import now
from chexvision_dispatch.records import RunRecord, Session
from chexvision_dispatch.script import SCRIPT_NAME

LOG_NAME = "log.txt"

# Training needs none of these; what a process does not know it cannot print.
_WITHHELD = ("KAGGLE_API_TOKEN", "KAGGLE_KEY", "KAGGLE_USERNAME")
_LOOK_S = 0.1


class Local:
    """Runs scripts here.

    Args:
        run_dir: the run's folder: the script starts in its ``working``, beside ``input`` and ``tmp``.
    """

    name = "local"
    reads_folders = True

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._process: subprocess.Popen[bytes] | None = None

    def check(self) -> None:
        """Nothing of this machine has to be asked for."""

    def prepare(self, record: RunRecord, folder: Path) -> list[str]:
        """The script is all that is needed."""
        return []

    def start(self, record: RunRecord, folder: Path) -> Session:
        """Start the script. It writes to ``log.txt`` itself and so survives a closed terminal."""
        for name in ("working", "input", "tmp"):
            (self._run_dir / name).mkdir(parents=True, exist_ok=True)
        with (self._run_dir / LOG_NAME).open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-u", str((folder / SCRIPT_NAME).resolve())],
                cwd=self._run_dir / "working",
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches it through us alone, once
            )
        return Session(now(), str(self._process.pid))

    def follow(self, session: Session) -> Session:
        """Show the log until the script ends; Ctrl-C and SIGTERM ask it to end, a second one kills it."""
        process = self._process
        if process is None:
            raise RuntimeError("follow() needs a session that this object started")
        sys.stdout.flush()
        with _signals_go_to(process), (self._run_dir / LOG_NAME).open("rb") as log:
            while True:
                ended = process.poll() is not None
                written = log.read()
                sys.stdout.buffer.write(written)
                sys.stdout.buffer.flush()
                if ended and not written:
                    break
                if not written:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(_LOOK_S)
        code = process.returncode
        artifact = self._run_dir / "working" / "artifact"
        if artifact.is_dir():
            print(f"artifact {artifact}")
        print(f"log {self._run_dir / LOG_NAME}")
        return replace(session, exit_code=code if code >= 0 else 128 - code)


@contextmanager
def _signals_go_to(process: subprocess.Popen[bytes]) -> Iterator[None]:
    asked = False

    def pass_on(*_: object) -> None:
        nonlocal asked
        if process.poll() is not None:
            return
        if asked:
            os.killpg(process.pid, signal.SIGKILL)
            return
        asked = True
        print("\nasked the run to end and waiting for it; once more kills it", file=sys.stderr)
        process.terminate()

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _environment() -> dict[str, str]:
    """Ours without Kaggle's credentials, with the Hub token of the user's login and the user's own caches."""
    from huggingface_hub import constants, get_token

    environment = {name: value for name, value in os.environ.items() if name not in _WITHHELD}
    token = get_token()
    if token is not None:
        environment["HF_TOKEN"] = token
    # A run's own tmp would download and decode the same shards again for each run.
    environment.setdefault("HF_HOME", constants.HF_HOME)
    environment.setdefault("CHEXVISION_CACHE", str(platformdirs.user_cache_path("chexvision")))
    environment["CHEXVISION_NO_INSTALL"] = "1"
    return environment
