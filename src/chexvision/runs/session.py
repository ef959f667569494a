"""One session of a run: its time limit, the requests to stop it, and the progress that it reports."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

from chexvision.errors import ChexError
from chexvision.files.atomic import write_text_atomic
from chexvision.hub.hub_errors import NotAllowed
from chexvision.provenance import now
from chexvision.retry import is_transient
from chexvision.runs.branch import RunBranch
from chexvision.runs.run_progress import PROGRESS_FILE, RunProgress, StopReason, read_progress
from chexvision.runs.uploader import Uploader

POLL_SECONDS = 60.0
POLL_VARIABLE = "CHEXVISION_POLL_SECONDS"  # how often the run's branch is polled for a stop request
# The id by which Kaggle's API cancels a session is found nowhere but in here.
_KAGGLE_CONTAINER = re.compile(r"kaggle_.+-(\d+)-webtier")


class ResumableWork(Protocol):
    """What a session asks of the work that it runs: which files the work resumes from, and how far it is."""

    def state_files(self) -> Mapping[str, Path]:
        """The files that a next session resumes from, as they are on disk now, by their path in the run's folder."""
        ...

    def unsent_files(self) -> Mapping[str, Path]:
        """Those of `state_files` that may not have been enqueued for the branch as they are."""
        ...

    def with_files(self, progress: RunProgress, files: Mapping[str, Path]) -> RunProgress:
        """The progress that goes to the branch together with `files`, which are enqueued now."""
        ...

    def position(self, progress: RunProgress) -> str:
        """How far the run is, as the end of a sentence: "after epoch 3"."""
        ...


class Session:
    """One execution of a run: a context that keeps ``FOLDER/progress.json`` and the run's branch up to date.

    Within it SIGTERM and SIGINT request an early end, with the state saved; a second one ends at once.

    Args:
        folder: the run's folder.
        run_id: the run.
        work: what the run does.
        max_hours: after which the session ends early; None for no limit.
        branch: where progress and state are published as well, if anywhere.

    Raises:
        NotAllowed: on entering, the token may not write to the branch: found out before anything is computed.
    """

    def __init__(
        self,
        folder: Path,
        run_id: str,
        work: ResumableWork,
        *,
        max_hours: float | None = None,
        branch: RunBranch | None = None,
    ) -> None:
        self.folder = folder
        self._work = work
        # The first of several processes reports progress; all of them may be requested to stop.
        self.is_main = os.environ.get("RANK", "0") == "0"
        self._branch = branch if self.is_main else None
        self._deadline = None if max_hours is None else time.monotonic() + max_hours * 3600
        self._max_hours = max_hours
        self._stop: tuple[StopReason, str] | None = None
        self._signalled: float | None = None
        self._ended = threading.Event()
        self._poller: threading.Thread | None = None
        self._uploader: Uploader | None = None
        self._handlers: dict[int, Any] = {}
        begun = read_progress(folder, run_id)
        self.progress = RunProgress(
            run_id=run_id,
            status="starting",
            session=1 if begun is None else begun.session + 1,
            updated_at=now(),
            kaggle_session_id=_kaggle_session_id(),
        )
        if begun is not None and work.state_files():
            kept = ("epochs", "best_epoch", "best_macro_auroc", "images", "images_done")
            seen = {"epoch": begun.state_epoch, "points": begun.points[: begun.state_epoch]}
            self.progress = self.progress.model_copy(update=seen | {name: getattr(begun, name) for name in kept})

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    def _open(self) -> None:
        if not self.is_main:
            return
        self.update()
        if self._branch is None:
            return
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()  # the state goes to the branch while a progress bar of training is shown
        try:
            self._branch.send({PROGRESS_FILE: self.progress.to_json().encode()}, f"Session {self.progress.session}")
        except NotAllowed as error:
            self.update(status="failed", note=str(error), stop_reason="not_allowed")
            raise
        except ChexError as error:
            # The Hub may be back in an hour; until then all is in the session's output.
            _warn(f"{error}; the run continues, its progress stays in {self.folder}")
        self._uploader = Uploader(self._branch, self.folder)
        self._poller = threading.Thread(target=self._poll_for_stop, args=(self._branch,), daemon=True)
        self._poller.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if error is None or self.progress.status == "failed" or not self.is_main:
            return
        if self.progress.status == "complete":
            self.update(note=_note(error))  # not published: the artifact stays in the folder
            self._send("Complete, not published")  # where the folder is lost, the state is what remains
            return
        self.fail(error)
        self._send(f"Session {self.progress.session} failed")

    def fail(self, error: BaseException) -> None:
        """Record in the run's folder alone that the run failed; also before the session begins."""
        if self.is_main:
            reason: StopReason = "transient_error" if is_transient(error) else "error"
            self.update(status="failed", note=_note(error), stop_reason=reason)

    def _close(self) -> None:
        self._ended.set()
        self._close_uploader(drop=False)
        if self._poller is not None:
            self._poller.join()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _close_uploader(self, *, drop: bool) -> None:
        if self._uploader is not None:
            self._uploader.close(drop=drop)
            self._uploader = None

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the session is to end early; None while it is not."""
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self.request_stop("time_budget", self._budget_note)
        return None if self._stop is None else self._stop[0]

    @property
    def _budget_note(self) -> str:
        return f"its time budget of {self._max_hours:.4g} h was used up"

    def request_stop(self, reason: StopReason, note: str) -> None:
        """Have the session end early; the first reason is the one that counts."""
        self._stop = self._stop or (reason, note)

    def should_stop(self) -> bool:
        """Whether to save the state and end; cheap enough to be called at every step."""
        return self.stop_reason is not None

    def update(self, **changes: object) -> None:
        """Update the progress, in the run's folder alone."""
        changed = {"state": tuple(sorted(self._work.state_files())), **changes, "updated_at": now()}
        self.progress = self.progress.model_copy(update=changed)
        if self.is_main:
            write_text_atomic(self.folder / PROGRESS_FILE, self.progress.to_json())

    def enqueue(self, files: Mapping[str, Path], message: str) -> None:
        """Send the progress and some of the state files to the branch, in the background."""
        if self._uploader is not None:
            self._uploader.enqueue(self._work.with_files(self.progress, files), files, message)

    def paused(self) -> None:
        """The run stopped early with its state saved: publish that."""
        if not self.is_main:
            return
        reason, note = self._reason_to_pause()
        self.update(status="paused", note=note, stop_reason=reason)
        position = self._work.position(self.progress)
        print(f"paused {position}: {note}; the state to resume from is saved", flush=True)
        self.enqueue(self._work.unsent_files(), f"Pause {position}")
        self._close_uploader(drop=False)

    def _reason_to_pause(self) -> tuple[StopReason, str]:
        self.should_stop()
        if self._stop is not None:
            return self._stop
        # Another process of the run requested it: one that began a little earlier reaches the limit earlier.
        if self._deadline is not None and self._deadline - time.monotonic() < _CLOCKS_APART_SECONDS:
            return "time_budget", self._budget_note
        return "signal", "another of its processes was asked to stop"

    def published(self, where: str | None) -> None:
        """The artifact was published as ``USER/NAME@<sha>`` or in a folder; None where it stays where it is."""
        if where is not None:
            self.update(published=where)
        self._send("Complete", settle=where is not None)

    def _send(self, message: str, *, settle: bool = False) -> None:
        """Publish the progress now; after a failure everything is still in the run's folder."""
        if self._branch is None:
            return
        self._close_uploader(drop=True)
        try:
            if settle:
                self._branch.settle(self.progress)
            else:
                files = self._work.unsent_files()
                progress = self._work.with_files(self.progress, files)
                self._branch.send({PROGRESS_FILE: progress.to_json().encode(), **files}, message)
        except ChexError as error:
            _warn(f"{error}; everything is in {self.folder}")

    def _poll_for_stop(self, branch: RunBranch) -> None:
        seconds = float(os.environ.get(POLL_VARIABLE, POLL_SECONDS))
        while not self._ended.wait(seconds):
            try:
                requested = branch.stop_requested()
            except Exception as error:  # noqa: BLE001 - polled again in a minute, whatever it was
                _warn(f"the run's branch could not be polled for a stop request ({type(error).__name__})")
                continue
            if requested:
                self.request_stop("stop_requested", "it was asked to stop")
                print("asked to stop: ending at the next step, with the state saved", flush=True)
                return

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._signalled is None:
            self._signalled = time.monotonic()
            self.request_stop("signal", f"it received {signal.Signals(number).name}")
            if self.is_main:  # os.write: the handler may have interrupted a print
                os.write(2, b"ending at the next step, with the state saved; once more ends at once\n")
        elif time.monotonic() - self._signalled > _SAME_REQUEST_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# A terminal signals all processes of a command, and a launcher passes what it got on to its own: one request, twice.
_SAME_REQUEST_SECONDS = 2.0
_CLOCKS_APART_SECONDS = 120.0


def _kaggle_session_id() -> int | None:
    found = _KAGGLE_CONTAINER.fullmatch(os.environ.get("KAGGLE_CONTAINER_NAME", ""))
    return int(found[1]) if found else None


def _note(error: BaseException) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__


def _warn(message: str) -> None:
    print(f"WARNING: {message}", file=sys.stderr, flush=True)
