"""One session of a run: how long it may go on, who may end it, and what it tells of itself meanwhile."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from chexvision.errors import ChexError
from chexvision.files import write_text_atomic
from chexvision.hub.run_branch import (
    PROGRESS_FILE,
    STATE_FILE,
    STATE_FILES,
    EpochPoint,
    NotAllowed,
    RunBranch,
    RunProgress,
    read_progress,
)
from chexvision.hub.store import Publication
from chexvision.provenance import now

if TYPE_CHECKING:
    from chexvision.training.history import EpochRecord

LOOK_SECONDS = 60.0
LOOK_VARIABLE = "CHEXVISION_LOOK_SECONDS"  # how often the run's branch is asked for a wish to stop


class Session:
    """One execution of a run: a context around it that keeps ``WORK/progress.json`` and the run's branch up to date.

    Within it SIGTERM and SIGINT ask for an early end, with the state saved; a second one ends at once.

    Args:
        work: the run's folder.
        run_id: the run.
        max_hours: after which the session ends early; None for no limit.
        branch: where progress and state are published as well, if anywhere.

    Raises:
        NotAllowed: on entering, the token may not write to the branch: found out before anything is computed.
    """

    def __init__(
        self, work: Path, run_id: str, *, max_hours: float | None = None, branch: RunBranch | None = None
    ) -> None:
        self.work = work
        # Of several processes the first one speaks; all of them may be asked to stop.
        self.speaks = os.environ.get("RANK", "0") == "0"
        self._branch = branch if self.speaks else None
        self._deadline = None if max_hours is None else time.monotonic() + max_hours * 3600
        self._max_hours = max_hours
        self._why = ""
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sender: _Sender | None = None
        self._handlers: dict[int, Any] = {}
        self._seconds: list[float] = []
        before = read_progress(work, run_id)
        resumes = before is not None and (work / STATE_FILE).is_file()
        self.progress = RunProgress(
            run_id=run_id,
            status="starting",
            session=1 if before is None else before.session + 1,
            updated_at=now(),
        )
        if before is not None and resumes:
            kept = ("epoch", "epochs", "best_epoch", "best_macro_auroc", "points")
            self.progress = self.progress.model_copy(update={name: getattr(before, name) for name in kept})

    def __enter__(self) -> Session:
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    def _open(self) -> None:
        if not self.speaks:
            return
        self._tell()
        if self._branch is None:
            return
        try:
            self._branch.send({PROGRESS_FILE: self.progress.to_json().encode()}, f"Session {self.progress.session}")
        except NotAllowed as error:
            self._tell(status="failed", note=str(error))
            raise
        except ChexError as error:
            # The Hub may be back in an hour; until then all is in the session's output.
            _warn(f"{error}; training goes on, its progress stays in {self.work}")
        self._sender = _Sender(self._branch, self.work)
        self._threads = [
            threading.Thread(target=self._sender.run, daemon=True),
            threading.Thread(target=self._look_for_wish, args=(self._branch,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if error is None or self.progress.status == "failed" or not self.speaks:
            return
        note = " ".join(str(error).split())[:500] or type(error).__name__
        if self.progress.status == "complete":
            self._tell(note=note)  # not published: the artifact waits in `work`
            return
        self._tell(status="failed", note=note)
        self._send(f"Session {self.progress.session} failed")

    def _close(self) -> None:
        self._ended.set()
        if self._sender is not None:
            self._sender.stop()
        for thread in self._threads:
            thread.join()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    @property
    def stop_reason(self) -> str:
        """Why the session is to end early; empty while it is not."""
        if not self._why and self._deadline is not None and time.monotonic() >= self._deadline:
            self._why = f"its time budget of {self._max_hours:.4g} h was used up"
        return self._why

    def should_stop(self) -> bool:
        """Whether to save the state and end; cheap enough to be asked at every step."""
        return bool(self.stop_reason)

    def epoch_begins(self, epochs: int) -> None:
        """Training is about to begin an epoch of a recipe of `epochs`."""
        if self.progress.status != "training" or self.progress.epochs != epochs:
            self._tell(status="training", epochs=epochs)

    def epoch_done(self, record: EpochRecord) -> None:
        """An epoch ended, and its state is saved in `work`."""
        progress = self.progress
        self._seconds.append(record.train_seconds + record.validation_seconds)
        point = EpochPoint(
            epoch=record.epoch,
            train_loss=record.train_loss,
            validation_loss=record.validation_loss,
            macro_auroc=record.macro_auroc,
        )
        points = (*(earlier for earlier in progress.points if earlier.epoch < record.epoch), point)
        scored = [(one.macro_auroc, -one.epoch) for one in points if one.macro_auroc is not None]
        best = max(scored, default=None)
        left = (progress.epochs or record.epoch) - record.epoch
        self._tell(
            epoch=record.epoch,
            points=points,
            best_macro_auroc=best[0] if best else None,
            best_epoch=-best[1] if best else None,
            seconds_left=round(left * sum(self._seconds) / len(self._seconds), 1),
        )
        if self._sender is not None:
            self._sender.put(self.progress)

    def paused(self) -> None:
        """Training stopped early with its state saved: publish it."""
        if not self.speaks:
            return
        reason = self.stop_reason
        self._tell(status="paused", note=reason)
        print(f"paused after epoch {self.progress.epoch}: {reason}; the state to resume from is saved", flush=True)
        self._send(f"Pause after epoch {self.progress.epoch}", state=True)

    def trained(self, artifact: Path) -> None:
        """The artifact is whole; whether it is published shows next."""
        hashes = {
            path.relative_to(artifact).as_posix(): _sha256(path)
            for path in sorted(artifact.rglob("*"))
            if path.is_file()
        }
        self._tell(status="complete", seconds_left=0.0, artifact=hashes)

    def published(self, publication: Publication | None) -> None:
        """The artifact was published, or was to be left where it is."""
        if publication is not None:
            self._tell(published=f"{publication.address}@{publication.revision}")
        self._send("Complete", settle=publication is not None)

    def _tell(self, **changes: object) -> None:
        self.progress = self.progress.model_copy(update={**changes, "updated_at": now()})
        if self.speaks:
            write_text_atomic(self.work / PROGRESS_FILE, self.progress.to_json())

    def _send(self, message: str, *, state: bool = False, settle: bool = False) -> None:
        """Publish to the branch now, after what is still on its way; a failure costs nothing that is in `work`."""
        if self._branch is None:
            return
        if self._sender is not None:
            self._sender.stop()
        files: dict[str, Path | bytes] = {PROGRESS_FILE: self.progress.to_json().encode()}
        if state:
            files |= {name: self.work / name for name in STATE_FILES if (self.work / name).is_file()}
        try:
            if settle:
                self._branch.settle(self.progress)
            else:
                self._branch.send(files, message)
        except ChexError as error:
            _warn(f"{error}; everything is in {self.work}")

    def _look_for_wish(self, branch: RunBranch) -> None:
        seconds = float(os.environ.get(LOOK_VARIABLE, LOOK_SECONDS))
        while not self._ended.wait(seconds):
            try:
                wished = branch.is_asked_to_stop()
            except Exception as error:  # noqa: BLE001 - the Hub is asked again in a minute, whatever it was
                _warn(f"the run's branch could not be asked for a wish to stop ({type(error).__name__})")
                continue
            if wished:
                self._why = self._why or "it was asked to stop"
                return

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._why:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self._why = f"it received {signal.Signals(number).name}"
        # os.write: the handler may have interrupted a print.
        os.write(2, b"ending at the next step, with the state saved; once more ends at once\n")


_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class _Sender:
    """Sends the newest state to the branch while training goes on; what is overtaken is left out."""

    def __init__(self, branch: RunBranch, work: Path) -> None:
        self._branch = branch
        self._work = work
        self._changed = threading.Condition()
        self._next: tuple[RunProgress, tempfile.TemporaryDirectory[str]] | None = None
        self._stopped = False
        self._busy = False

    def put(self, progress: RunProgress) -> None:
        """Send `progress` with the state as it lies in the work folder now."""
        # Links keep the bytes of this very moment: the next state is written to a new file and renamed.
        kept = tempfile.TemporaryDirectory(prefix=".sending-", dir=self._work)
        for name in STATE_FILES:
            if (self._work / name).is_file():
                _link(self._work / name, Path(kept.name) / name)
        with self._changed:
            overtaken, self._next = self._next, (progress, kept)
            self._changed.notify_all()
        if overtaken is not None:
            overtaken[1].cleanup()

    def stop(self) -> None:
        """Return once what is being sent is sent; what still waits is dropped."""
        with self._changed:
            self._stopped = True
            dropped, self._next = self._next, None
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._busy)
        if dropped is not None:
            dropped[1].cleanup()

    def run(self) -> None:
        """Send what is put until `stop`."""
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._next is not None or self._stopped)
                if self._next is None:
                    return
                (progress, kept), self._next = self._next, None
                self._busy = True
            with kept as folder:
                files: Mapping[str, Path | bytes] = {
                    PROGRESS_FILE: progress.to_json().encode(),
                    **{path.name: path for path in sorted(Path(folder).iterdir())},
                }
                try:
                    self._branch.send(files, f"Epoch {progress.epoch}")
                except ChexError as error:
                    _warn(f"{error}; the state stays in {self._work}, the next epoch tries again")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)  # a file system without hard links


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _warn(message: str) -> None:
    print(f"WARNING: {message}", file=sys.stderr, flush=True)
