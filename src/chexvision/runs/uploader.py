"""Uploads to a run's branch in the background."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

from chexvision.errors import ChexError
from chexvision.runs.branch import RunBranch
from chexvision.runs.run_progress import PROGRESS_FILE, RunProgress

_LINKS = ".sending-"


class Uploader:
    """Sends the newest progress and files to a branch from its own thread.

    What is replaced before its turn is left out; what could not be sent is sent with the next.

    Args:
        branch: the run's branch.
        work: a folder for links on the disk of the files.
    """

    def __init__(self, branch: RunBranch, work: Path) -> None:
        self._branch = branch
        for left in work.glob(f"{_LINKS}*"):  # by a session that was killed
            shutil.rmtree(left, ignore_errors=True)
        self._links = tempfile.TemporaryDirectory(prefix=_LINKS, dir=work)
        self._linked = 0
        self._changed = threading.Condition()
        self._files: dict[str, Path] = {}
        self._next: tuple[RunProgress, str] | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def enqueue(self, progress: RunProgress, files: Mapping[str, Path], message: str) -> None:
        """Send `progress` and `files`, by their names on the branch, as they are on disk now."""
        # Hard links keep the bytes of this moment: a replacement is written to a new file and renamed.
        links = {name: self._link(path) for name, path in files.items()}
        with self._changed:
            replaced = [self._files[name] for name in links if name in self._files]
            self._files |= links
            self._next = progress, message
            self._changed.notify_all()
        for path in replaced:
            path.unlink()

    def close(self, *, drop: bool = False) -> None:
        """Return once everything was sent or tried; with `drop` what is still waiting is left out."""
        with self._changed:
            self._closed = True
            if drop:
                self._next = None
            self._changed.notify_all()
        self._thread.join()
        self._links.cleanup()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next is not None or self._closed)
                if self._next is None:
                    return
                (progress, message), self._next = self._next, None
                files, self._files = self._files, {}
            try:
                self._branch.send({PROGRESS_FILE: progress.to_json().encode(), **files}, message)
                if files:
                    self._free_storage()
            except ChexError as error:
                print(f"WARNING: {error}; everything is in the run's folder, too", file=sys.stderr, flush=True)
                with self._changed:
                    waiting = files | self._files
                    files = {name: path for name, path in files.items() if waiting[name] != path}
                    self._files = waiting
            for path in files.values():
                path.unlink(missing_ok=True)

    def _free_storage(self) -> None:
        try:
            self._branch.free_storage()
        except ChexError as error:  # what was sent is safe
            print(f"WARNING: {error}", file=sys.stderr, flush=True)

    def _link(self, source: Path) -> Path:
        self._linked += 1
        target = Path(self._links.name) / f"{self._linked}-{source.name}"
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)  # a file system without hard links
        return target
