"""Files that appear complete or not at all, and bounded reads and hashes of files."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path next to `path` to write to; it replaces `path` when the block succeeds and is removed otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text_atomic(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path`, completely or not at all."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_regular(path: Path, at_most: int) -> bytes:
    """The bytes of an untrusted file: a FIFO would block, a device or a huge file fill the memory.

    Args:
        path: the file; symbolic links are followed.
        at_most: bytes.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger.
    """
    if regular_size(path) > at_most:
        raise OSError(errno.EINVAL, f"more than {at_most >> 20:,} MiB", str(path))
    return path.read_bytes()


def regular_size(path: Path) -> int:
    """Bytes of a regular file; OSError where `path`, or what it links to, is missing or is something else."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for holds, name in _KINDS if holds(found.st_mode)), "something else")
        raise OSError(errno.EINVAL, f"{kind}, not a regular file", str(path))
    return found.st_size


_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode), "a device"),
)


def sha256_of(*paths: Path) -> str:
    """SHA-256, as 64 hex digits, of what the files hold one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
