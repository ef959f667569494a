"""Which images are to be predicted: files, folders, patterns, archives, and lists of them."""

from __future__ import annotations

import glob
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path, PurePosixPath

from chexvision.errors import ChexError, UsageError
from chexvision.files.archives import is_archive
from chexvision.files.remote_folder import is_url, remote_folder
from chexvision.images.remote_images import RemoteImages
from chexvision.images.sources import Found, is_image_file, members_of, read_images, walk_files


@dataclass(frozen=True, slots=True)
class Source:
    """One image.

    Args:
        found: where it is.
        stamp: equal while its file, or the archive that it is in, is not changed.
        damaged: why an archive cannot be read; it stands for what would be in it.
    """

    found: Found
    stamp: str
    damaged: str | None = None

    @property
    def name(self) -> str:
        """Its own name, without folders."""
        return self.found.name

    @property
    def path(self) -> str:
        """See `chexvision.images.sources.Found.path`."""
        return self.found.path


def find_sources(words: Sequence[str], lines: Iterable[str]) -> list[Source]:
    """The images that are named, see `each_source`."""
    return list(each_source(words, lines))


def each_source(words: Sequence[str], lines: Iterable[str]) -> Iterator[Source]:
    """The images that are named, each once, in the order of the words; those of a folder or archive are sorted.

    What takes memory are the names of one folder or archive at a time.

    Args:
        words: files; folders, with all folders and archives in them; archives; patterns with ``*``, ``?`` or ``[``;
            URLs of folders in an object store, such as ``s3://bucket/folder``; or ``-`` for `lines`.
        lines: one file, folder, archive or URL each, as of standard input; read where a word asks for them.

    Raises:
        UsageError: there is no such file, or no image in what is named.
        RemoteError: an object store does not answer.
    """
    seen, listed, real = _Seen(), "", ""
    for word in words:
        if not word:  # as of a variable of the shell that is not set; as a path it is the current folder
            raise UsageError("an empty name; name images, folders or .zip archives of them")
        for place in _places(word, lines):
            is_empty = True
            for source in _of(place):
                is_empty = False
                if listed != (container := str(source.found.container)):
                    listed, real = container, os.path.realpath(container)
                if seen.is_new(real, source.found.member):
                    yield source
            if is_empty:
                raise UsageError(f"{place} contains no PNG, JPEG or DICOM file")
    if not seen.count:
        raise UsageError("no image is named")


class _Seen:
    """Which images were met, in a database that SQLite moves to a file of its own when it becomes large."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE seen (image BLOB PRIMARY KEY) WITHOUT ROWID")
        self._database.execute("BEGIN")
        self.count = 0

    def is_new(self, container: str, member: str) -> bool:
        """Whether this is the first call for an image."""
        key = hashlib.blake2b(f"{container}\0{member}".encode(errors="surrogatepass"), digest_size=16).digest()
        is_new = self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (key,)).rowcount == 1
        self.count += is_new
        return is_new


def read_sources(sources: Sequence[Source]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Each image's name with a function that reads it, in order; see `chexvision.images.sources.read_images`."""
    for (damaged, _), group in groupby(sources, lambda source: (source.damaged, source.found.container)):
        if damaged is not None:
            yield from ((source.name, partial(_refuse, damaged)) for source in group)
        else:
            yield from ((found.name, read) for found, read in read_images([source.found for source in group]))


def sha256_of_sources(sources: Sequence[Source]) -> str:
    """Equal for the same images that have not changed."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(f"{source.path}\0{source.stamp}\0".encode(errors="surrogatepass"))
    return digest.hexdigest()


def _places(word: str, lines: Iterable[str]) -> Iterator[Path | RemoteImages]:
    if word == "-":
        for line in lines:
            if name := line.rstrip("\r\n"):
                yield RemoteImages(remote_folder("line", name)) if is_url(name) else _existing(Path(name))
    elif is_url(word):
        yield RemoteImages(remote_folder("INPUT", word))
    elif not os.path.lexists(word) and glob.has_magic(word):
        matches = sorted(glob.glob(word, recursive=True))  # noqa: PTH207 - that of Path takes hidden files for matches
        if not matches:
            raise UsageError(f"{word}: no file has such a name")
        yield from map(Path, matches)
    else:
        yield _existing(Path(word))


def _existing(path: Path) -> Path:
    if not os.path.lexists(path):
        raise UsageError(f"{path}: No such file or directory; name images, folders or .zip archives of them")
    return path


def changed_since_listed(sources: Sequence[Source]) -> Source | None:
    """The first image whose file is not as it was when it was listed, or is not on this machine."""
    stamps: dict[Path, str] = {}
    for source in sources:
        container = source.found.container
        if isinstance(container, Path):
            path = container if is_archive(container) else container / source.found.member
            if stamps.setdefault(path, _stamp(path)) != source.stamp:
                return source
    return None


def _of(path: Path | RemoteImages) -> Iterator[Source]:
    if isinstance(path, RemoteImages):
        for member, stored in path.stored().items():
            yield Source(Found(PurePosixPath(member).name, path, member), f"{stored.size} {stored.stamp}")
    elif path.is_dir():
        for file in walk_files(path):
            if is_archive(file):
                yield from _in_archive(file)
            elif is_image_file(file):
                yield _file(file)
    elif is_archive(path):
        yield from _in_archive(path)
    else:
        yield _file(path)


def _file(path: Path) -> Source:
    return Source(Found(path.name, path.parent, path.name), _stamp(path))


def _in_archive(path: Path) -> Iterator[Source]:
    stamp = _stamp(path)
    try:
        members = members_of(path)
    except ChexError as error:
        yield Source(Found(path.name, path.parent, path.name), stamp, damaged=str(error))
        return
    yield from (Source(Found(PurePosixPath(member).name, path, member), stamp) for member, _ in members)


def _stamp(path: Path) -> str:
    try:
        state = path.stat()
    except OSError as error:
        return f"{error.strerror}"
    return f"{state.st_size} {state.st_mtime_ns}"


def _refuse(reason: str) -> bytes:
    raise ValueError(reason)
