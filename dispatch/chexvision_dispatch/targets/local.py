"""This machine: the script in a process of its own, in a folder laid out as on Kaggle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Annotated, ClassVar, Self

import typer
from pydantic import model_validator

from chexvision.layout import cache_dir
from chexvision.provenance import now
from chexvision.runs.run_progress import RunProgress
from chexvision_dispatch.run_records import RunRecord, Session
from chexvision_dispatch.script import SCRIPT_NAME
from chexvision_dispatch.targets.session_log import file_log
from chexvision_dispatch.targets.target import Busy, RunFolder, SessionState, Target

LOG_NAME = "log.txt"
EXIT_NAME = "exit-code"  # written when the script ends; missing after a SIGKILL
LOCK_NAME = "running.lock"  # held by the script as long as it runs, whatever happens to us

# Training needs none of these; what a process does not know it cannot print.
_WITHHELD = ("KAGGLE_API_TOKEN", "KAGGLE_KEY", "KAGGLE_USERNAME")
_POLL_S = 0.1


class LocalOptions(RunFolder):
    """Options of a run on this machine."""

    instead: ClassVar = {
        "timeout_hours": "take --max-hours",
        "token_dataset": "the token of HF_TOKEN or of `hf auth login` is used",
    }

    max_hours: Annotated[float | None, typer.Option(help="Save the state and pause after so many hours.")] = None

    @model_validator(mode="after")
    def _some_time(self) -> Self:
        if self.max_hours is not None and self.max_hours <= 0:
            raise ValueError(f"--max-hours {self.max_hours:g} must be above 0")
        return self


class Local(Target):
    """Runs scripts here."""

    name = "local"
    Options = LocalOptions
    options: LocalOptions
    is_here = True
    computes_here = True
    finds_lost_start = True  # its lock is held

    def __init__(self, options: LocalOptions, *, dry_run: bool = False) -> None:
        super().__init__(options, dry_run=dry_run)
        if options.run_dir is None:
            raise ValueError("no run_dir")
        self._run_dir = options.run_dir
        self.max_hours = options.max_hours

    def start(self, record: RunRecord, folder: Path) -> Session:
        """Start the script. It writes to ``log.txt`` itself and so survives a closed terminal."""
        for name in ("working", "input", "tmp"):
            (self._run_dir / name).mkdir(parents=True, exist_ok=True)
        (self._run_dir / EXIT_NAME).unlink(missing_ok=True)
        if record.sessions and (self._run_dir / LOG_NAME).exists():
            (self._run_dir / LOG_NAME).rename(self._run_dir / f"log-{len(record.sessions)}.txt")
        # The lock is inherited: it is free again when the script's process is gone, and a process id that another
        # program uses again is never taken for it.
        with (self._run_dir / LOG_NAME).open("wb") as log, (self._run_dir / LOCK_NAME).open("wb") as lock:
            self._hold(lock)
            process = subprocess.Popen(
                [sys.executable, "-u", str((folder / SCRIPT_NAME).resolve())],
                cwd=self._run_dir / "working",
                env={**_environment(), "CHEXVISION_EXIT_FILE": str((self._run_dir / EXIT_NAME).resolve())},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours alone
                pass_fds=[lock.fileno()],
            )
        return Session(now(), str(process.pid))

    def state(self, session: Session) -> SessionState:
        """Whether the script runs, and its exit code."""
        if self._lives():
            return SessionState("running")
        try:
            code = int((self._run_dir / EXIT_NAME).read_text())
        except (OSError, ValueError):
            return SessionState("error", "killed without warning")
        return SessionState("error" if code else "complete", f"exit code {code}" if code else "", code)

    def log(self, session: Session, *, follow: bool) -> Iterator[str]:
        """The last session's log; those of earlier ones are next to it as ``log-1.txt`` and so on."""
        return file_log(self._run_dir / LOG_NAME, self._lives, _POLL_S, follow=follow)

    def cancel(self, session: Session) -> bool:
        """Ask the script to save its state and end."""
        if self._lives():
            os.kill(int(session.handle), signal.SIGTERM)
        return True

    def kill(self, session: Session, progress: RunProgress | None) -> None:
        """Kill the script and what it started."""
        if self._lives():
            os.killpg(int(session.handle), signal.SIGKILL)

    def passes_files_on(self, session: Session) -> bool:
        """All sessions share a folder."""
        return True

    def collect(self, session: Session, folder: Path, names: Sequence[str]) -> Path | None:
        """It is here already."""
        return self._run_dir / "working"

    def _hold(self, lock: IO[bytes]) -> None:
        import fcntl  # not on Windows, where the other targets can be used

        for _ in range(10):
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_POLL_S)  # another command that polls releases it at once
        raise Busy(f"a session runs in {self._run_dir} already")

    def _lives(self) -> bool:
        try:
            lock = (self._run_dir / LOCK_NAME).open("rb")
        except FileNotFoundError:
            return False
        import fcntl

        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


def _environment() -> dict[str, str]:
    """Ours without Kaggle's credentials, with the Hub token of the user's login and the user's own caches."""
    from huggingface_hub import constants, get_token

    environment = {name: value for name, value in os.environ.items() if name not in _WITHHELD}
    token = get_token()
    if token is not None:
        environment["HF_TOKEN"] = token
    # A run's own tmp would download and decode the same shards again for each run.
    environment.setdefault("HF_HOME", constants.HF_HOME)
    environment.setdefault("CHEXVISION_CACHE", str(cache_dir()))
    environment["CHEXVISION_NO_INSTALL"] = "1"
    return environment
