"""A folder that appears complete or not at all."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType

from chexvision.errors import ChexError

if sys.platform != "win32":
    import fcntl

_log = logging.getLogger(__name__)
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def atomic_folder(
    out: Path,
    *,
    check: Callable[[], None] = lambda: None,
    needed_bytes: int | None = None,
    exit_on_sigterm: bool = False,
    kept: bool = False,
) -> Iterator[Path]:
    """Yield an empty folder next to `out` that replaces `out` when the block succeeds, and is removed otherwise.

    Leave no file open in the folder when the block ends. What a killed process left is removed by the next call; two
    at once for one `out` are refused, see `locked`.

    Args:
        out: the folder to make.
        check: raises where `out` must not be replaced; called before and after the lock is taken.
        needed_bytes: an estimate of what the folder will take, checked against the free disk first.
        exit_on_sigterm: whether SIGTERM ends the block as Ctrl-C does, instead of what it does otherwise.
        kept: whether the folder outlives a failure; it is ``OUT.partial`` then, with what an earlier call left.

    Raises:
        ChexError: `out` is being made already; or, where `needed_bytes` is given, the disk has too little room or
            became full.
    """
    out = out.expanduser().resolve()
    check()
    out.parent.mkdir(parents=True, exist_ok=True)
    with locked(out.with_name(f".{out.name}.lock"), f"{out} is being made by another command"):
        staging = out.with_name(f"{out.name}.partial" if kept else f".{out.name}.partial")
        _clear_leftovers(staging, out, kept=kept)
        check()
        if needed_bytes is not None:
            held = sum(path.stat().st_size for path in staging.rglob("*"))
            _check_room(out.parent, needed_bytes - held)
        staging.mkdir(exist_ok=kept)
        try:
            with _sigterm_as_exit() if exit_on_sigterm else nullcontext():
                yield staging
                _move_into_place(staging, out)
        except OSError as error:
            if needed_bytes is not None and error.errno in _DISK_FULL:
                raise ChexError(
                    f"the disk of {out.parent} is full; free some space or choose another --out"
                ) from error
            raise
        finally:
            if not kept:
                shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def locked(path: Path, busy: str | None = None) -> Iterator[None]:
    """Hold the lock file `path`, which is removed afterwards.

    The kernel frees the lock when its process dies in whatever way, and knows of it in every container that shares
    the folder; NFS passes it on to other machines. A process id in a file could do neither. On Windows, and on file
    systems without locks, nothing is locked.

    Args:
        path: in a folder that exists.
        busy: the error where another process holds it; waits for that process where left out.

    Raises:
        ChexError: another process holds it and `busy` is given.
    """
    if sys.platform == "win32":
        yield
        return
    while True:
        with path.open("ab") as file:  # open for writing: NFS demands it
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
            except BlockingIOError:
                raise ChexError(f"{busy}; wait for its end, or choose another folder") from None
            except OSError as error:
                _log.warning("%s has no locks (%s): run one command at a time there", path.parent, error.strerror)
            if not _is_same_file(file.fileno(), path):
                continue  # its last holder has removed it
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _clear_leftovers(staging: Path, out: Path, *, kept: bool) -> None:
    """Remove what a killed process left; the lock is held, so no other process uses it."""
    old = _old(out)
    if old.exists() and not out.exists():
        old.rename(out)  # killed between the two steps of replacing it
    shutil.rmtree(old, ignore_errors=True)
    if not kept:
        shutil.rmtree(staging, ignore_errors=True)


def _old(out: Path) -> Path:
    return out.with_name(f".{out.name}.old")


def _move_into_place(staging: Path, out: Path) -> None:
    if not out.exists():
        staging.rename(out)
        return
    old = _old(out)
    out.rename(old)
    try:
        staging.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old)


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ChexError(
            f"{folder} has {free / 1e9:.1f} GB free and about {needed / 1e9:.1f} GB are needed; "
            "free some space, choose another --out or a smaller --size"
        )


@contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
