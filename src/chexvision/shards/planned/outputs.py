"""Where shards are written: a local folder, or a folder that is reached by a URL."""

from __future__ import annotations

import os
import re
import tempfile
import uuid
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import sha256_of, write_text_atomic
from chexvision.files.remote_folder import RemoteFolder
from chexvision.shards.manifest import MANIFEST_NAME
from chexvision.shards.remote import without_client_bars


class Output(Protocol):
    """A folder of shards that is made by one or many processes; picklable.

    Its files appear complete or not at all.
    """

    @property
    def scratch(self) -> Path:
        """A local folder for files that are not complete."""

    @property
    def reachable(self) -> bool:
        """Whether this process finds the folder."""

    def put(self, file: Path, path: str) -> None:
        """Move a complete file of `scratch` to `path`, over what is there."""

    def write(self, path: str, text: str) -> None:
        """Write a small file."""

    def read(self, path: str) -> str | None:
        """A small file; None if it is not there."""

    def listed(self) -> list[str]:
        """All files, sorted."""

    def holds(self, path: str, size: int, sha256: str | None = None) -> bool:
        """Whether a file is there as it was written: by its size, or by its hash too."""

    def remove(self, path: str) -> None:
        """Delete a file."""


@dataclass(frozen=True, slots=True)
class LocalOutput:
    """A folder of this machine, or one that several machines share."""

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def reachable(self) -> bool:
        """See `Output`."""
        return self.folder.is_dir()

    @property
    def scratch(self) -> Path:
        """See `Output`: the folder itself, so that `put` only renames."""
        return self.folder

    def put(self, file: Path, path: str) -> None:
        """See `Output`."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with file.open("rb") as written:
            os.fsync(written.fileno())
        file.replace(target)

    def write(self, path: str, text: str) -> None:
        """See `Output`."""
        write_text_atomic(self.folder / path, text)

    def read(self, path: str) -> str | None:
        """See `Output`."""
        try:
            return (self.folder / path).read_text(encoding="utf-8")
        except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError):
            return None

    def listed(self) -> list[str]:
        """See `Output`."""
        return sorted(p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file())

    def holds(self, path: str, size: int, sha256: str | None = None) -> bool:
        """See `Output`."""
        file = self.folder / path
        same_size = file.is_file() and file.stat().st_size == size
        return same_size and (sha256 is None or sha256_of(file) == sha256)

    def remove(self, path: str) -> None:
        """See `Output`."""
        (self.folder / path).unlink(missing_ok=True)


# What a set of shards consists of; other files of a remote folder are not ours to delete.
_OURS = re.compile(r"(data|finished)/[^/]+\.(parquet|json)|manifest\.json|README\.md|boxes\.csv")
_OF_THE_HUB = ".gitattributes"  # in each repository
_WRITER = "finished/writer.json"  # which command writes here


@dataclass(frozen=True, slots=True)
class RemoteOutput:
    """A folder that is reached by a URL. Object stores show a file when it is complete.

    The manifest is written last: a folder without one is not complete. Of several commands that write to one folder
    the last that began goes on, and the others end at their next file.

    Args:
        folder: the place.
        writer: this command; the copies of other processes belong to it.
    """

    folder: RemoteFolder
    writer: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def reachable(self) -> bool:
        """See `Output`: it is found out by writing."""
        return True

    @property
    def scratch(self) -> Path:
        """See `Output`."""
        return Path(tempfile.gettempdir())

    def begin(self, *, overwrite: bool) -> None:
        """Check that shards can and may be written here; those of a complete set are not complete any more.

        Raises:
            UsageError: it contains other files, or shards that are not to be overwritten: a complete set, or files
                without the records that an unfinished build leaves.
            RemoteError: it cannot be listed or written.
        """
        files = [path for path in self.folder.listed() if path != _OF_THE_HUB]
        others = [path for path in files if not _OURS.fullmatch(path)]
        if others:
            raise UsageError(f"--out {self} holds other files, such as {others[0]}; name another folder")
        if MANIFEST_NAME in files:
            if not overwrite:
                raise UsageError(f"--out {self} already holds shards; add --overwrite to replace them")
        elif files and not overwrite and not any(path.startswith("finished/") for path in files):
            raise UsageError(
                f"--out {self} holds {files[0]}, and neither manifest.json nor records of an unfinished build; name "
                "another folder, or add --overwrite to replace its shards"
            )
        self.folder.write(_WRITER, self.writer)
        if MANIFEST_NAME in files:
            self.remove(MANIFEST_NAME)

    def end(self) -> None:
        """Delete what an unfinished build leaves; the set is complete.

        Raises:
            RemoteError: it cannot be deleted.
        """
        self._check_writer()
        for path in self.listed():
            if path.startswith("finished/"):
                self.remove(path)
        self.remove(_WRITER)

    def put(self, file: Path, path: str) -> None:
        """See `Output`."""
        self._check_writer()
        with without_client_bars() if self.folder.url.startswith("hf:") else nullcontext():
            self.folder.put(file, path)
        file.unlink()

    def write(self, path: str, text: str) -> None:
        """See `Output`."""
        self._check_writer()
        self.folder.write(path, text)

    def read(self, path: str) -> str | None:
        """See `Output`."""
        data = self.folder.read_small(path)
        return None if data is None else data.decode(errors="replace")

    def listed(self) -> list[str]:
        """See `Output`: those that a set of shards consists of, and the records of an unfinished build."""
        return [path for path in self.folder.listed() if _OURS.fullmatch(path) and path != _WRITER]

    def holds(self, path: str, size: int, sha256: str | None = None) -> bool:
        """See `Output`: by its size, for it would have to be fetched to be hashed."""
        return self.folder.size(path) == size

    def remove(self, path: str) -> None:
        """See `Output`."""
        self.folder.remove(path)

    def _check_writer(self) -> None:
        if self.read(_WRITER) != self.writer:
            raise ChexError(f"another command writes to {self} since this one began; this one ends")
