"""A folder that appears whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType

from chexvision.errors import ChexError, UsageError

_MANIFEST = "manifest.json"  # marks a shard folder
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def staged_folder(out: Path, *, overwrite: bool, needed_bytes: int, kept: bool = False) -> Iterator[Path]:
    """Yield a folder beside `out`, empty, that becomes `out` when the block ends well, and is removed otherwise.

    SIGTERM ends the block like Ctrl-C does. Leave no file open in the folder when the block ends. What a call that
    was killed left is removed by the next one; two at once for one `out` are refused, see `locked`.
    With `kept` the folder is ``OUT.partial``, holds what an earlier call left, and stays where the block fails; what
    signals do is then left to the caller.

    Args:
        out: the folder to make; missing, empty, or a shard folder that `overwrite` allows to replace.
        overwrite: whether a shard folder at `out` is replaced.
        needed_bytes: an estimate of what the folder will take; checked against the free disk first.
        kept: whether the folder outlives a failure.

    Raises:
        UsageError: `out` exists and may not be replaced.
        ChexError: the disk has too little room, or became full; or `out` is being made already.
    """
    out = out.expanduser().resolve()
    check_replaceable(out, overwrite=overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    with locked(out.with_name(f".{out.name}.lock"), f"{out} is being made by another command"):
        staging = out.with_name(f"{out.name}.partial" if kept else f".{out.name}.building")
        _clear_leftovers(staging, out, kept=kept)
        check_replaceable(out, overwrite=overwrite)
        held = sum(path.stat().st_size for path in staging.rglob("*"))
        _check_room(out.parent, needed_bytes - held)
        staging.mkdir(exist_ok=kept)
        try:
            with nullcontext() if kept else _sigterm_as_exit():
                yield staging
                _move_into_place(staging, out)
        except OSError as error:
            if error.errno in _DISK_FULL:
                raise ChexError(
                    f"the disk of {out.parent} is full; free some room or choose another --out"
                ) from error
            raise
        finally:
            if not kept:
                shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold the lock file `path`, which is gone afterwards.

    The kernel frees the lock when its process dies in whatever way, and knows of it in every container that shares
    the folder; NFS passes it on to other machines. A process id in a file could do neither.

    Args:
        path: in a folder that exists.
        busy: what to say where another process holds it.

    Raises:
        ChexError: another process holds it, or the file system has no locks.
    """
    while True:
        with path.open("ab") as file:  # open for writing: NFS demands it
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ChexError(f"{busy}; wait for its end, or choose another place") from None
            except OSError as error:
                raise ChexError(f"{path.parent} takes no locks ({error.strerror}); choose another disk") from None
            if not _is_same_file(file.fileno(), path):
                continue  # the one who held it before has removed it meanwhile
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
    """Remove what a call that was killed left; the lock is held, so nobody uses it."""
    old = _old(out)
    if old.exists() and not out.exists():
        old.rename(out)  # killed between the two steps of replacing it
    shutil.rmtree(old, ignore_errors=True)
    if not kept:
        shutil.rmtree(staging, ignore_errors=True)


def _old(out: Path) -> Path:
    return out.with_name(f".{out.name}.old")


def check_replaceable(out: Path, *, overwrite: bool) -> None:
    """Raise UsageError where `out` exists and is neither empty nor a shard folder to overwrite."""
    if not out.exists():
        return
    if not out.is_dir():
        raise UsageError(f"--out {out} is a file; name a folder")
    if not any(out.iterdir()):
        return
    if not (out / _MANIFEST).is_file():
        raise UsageError(f"--out {out} is not empty and holds no shards; name another folder")
    if not overwrite:
        raise UsageError(f"--out {out} already holds shards; add --overwrite to replace them")


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
            "free some room, choose another --out or a smaller --size"
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
