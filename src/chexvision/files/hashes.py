"""SHA-256 of large files, cached until they change."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from chexvision.files.atomic import sha256_of, write_text_atomic
from chexvision.layout import cache_dir
from chexvision.parallel import map_in_order, usable_cores
from chexvision.progress import Progress


class Hashes:
    """The cached hashes of files. A file counts as unchanged while its inode, size and times stay.

    The times only decide when to read a file again; they are not part of what is returned.
    """

    def __init__(self) -> None:
        self._file = cache_dir() / "sha256.json"
        self._lock = threading.Lock()
        self._found: dict[str, list[Any]] = {}  # since the last save
        self._known = self._read()

    def of(self, path: Path) -> str:
        """SHA-256 of the file as 64 hex digits; may be called in several threads."""
        blob = path.resolve()
        state = _state(blob)
        known = self._found.get(str(blob)) or self._known.get(str(blob))
        if known is not None and known[:-1] == state:
            return str(known[-1])
        digest = sha256_of(blob)
        with self._lock:
            self._found[str(blob)] = [*state, digest]
        return digest

    def of_all(self, paths: Iterable[Path], what: str) -> list[str]:
        """The same of many files on all cores, with a progress bar called `what`; they are cached."""
        sizes = {path: path.stat().st_size / 10**6 for path in paths}
        hashes = []
        with Progress(what, sum(sizes.values()), "MB") as progress:
            for megabytes, digest in zip(sizes.values(), map_in_order(self.of, sizes, usable_cores()), strict=True):
                hashes.append(digest)
                progress.advance(megabytes)
        self.save()
        return hashes

    def save(self) -> None:
        """Write the cache."""
        if not self._found:
            return
        with self._lock:
            # Read again: another process may have saved in between.
            known = {**self._read(), **self._found}
            self._known = {name: of for name, of in sorted(known.items()) if Path(name).exists()}
            self._found = {}
            write_text_atomic(self._file, json.dumps(self._known, indent=1) + "\n")

    def _read(self) -> dict[str, list[Any]]:
        try:
            return {str(name): list(of) for name, of in json.loads(self._file.read_text(encoding="utf-8")).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}  # only a cache: the files are read again


def _state(path: Path) -> list[Any]:
    stat = path.stat()
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
