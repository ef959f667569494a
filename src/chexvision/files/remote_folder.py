"""Folders that are reached by a URL, such as ``s3://bucket/folder``, through fsspec."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from chexvision.errors import UsageError
from chexvision.files.object_stores import (
    STORES,
    found,
    info_now,
    no_holder,
    one_line,
    opened,
    or_none,
    repeated,
    stamp,
    store_of,
    without_secrets,
)
from chexvision.foreign import printable

T = TypeVar("T")

_ON_THE_HUB = re.compile(r"(datasets|buckets)/[^/@]+/[^/@]+(@[^/]+)?(/.*)?")


def is_url(text: str) -> bool:
    """Whether a text names a remote folder or file."""
    return "://" in text


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What a listing says of a file.

    Args:
        size: bytes.
        stamp: the store's own note of the content, such as a hash or an ETag: another content has another one, the
            same content written again may have another one too. Empty where the store has none.
    """

    size: int
    stamp: str


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    """A folder below a bucket or a repository.

    Equal for equal places and picklable: it holds no credentials. Each process finds its own, where its protocol's
    package looks for them: the environment, or the files of a cloud's command line.

    Args:
        url: without a slash at its end.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def listed(self) -> dict[str, StoredFile]:
        """All files below, by their path in the folder, sorted; empty where there is no such folder.

        Raises:
            RemoteError: it cannot be listed, its bucket is not there, or a path leaves the folder.
        """
        infos = self._call("", partial(found, store_of(self.url)), missing=no_holder(self.url))
        return {path: _stored(info) for path, info in sorted(infos.items())}

    def read(self, path: str) -> bytes:
        """The content of a file, all of it in memory: look at its size first.

        Raises:
            RemoteError: it cannot be read.
        """
        return self._call(path, self._content)

    def read_small(self, path: str) -> bytes | None:
        """The content of a file as it is now; None if it is not there.

        Raises:
            RemoteError: nobody knows.
        """
        return self._call(path, or_none(self._content))

    def size(self, path: str) -> int | None:
        """Bytes of a file; None if it is not there.

        Raises:
            RemoteError: nobody knows.
        """
        found = self.stored(path)
        return None if found is None else found.size

    def stored(self, path: str) -> StoredFile | None:
        """What the store says of a file now; None if it is not there.

        Raises:
            RemoteError: nobody knows.
        """
        info = self._call(path, or_none(info_now))
        return None if info is None else _stored(info)

    def put(self, file: Path, path: str) -> None:
        """Copy a local file to `path`, where it appears complete or not at all.

        Raises:
            RemoteError: it cannot be written.
        """
        self._call(path, lambda system, place: system.put_file(str(file), place), missing=no_holder(self.url))

    def write(self, path: str, text: str) -> None:
        """Write a small file.

        Raises:
            RemoteError: it cannot be written.
        """
        data = text.encode()
        self._call(path, lambda system, place: system.pipe_file(place, data), missing=no_holder(self.url))

    def remove(self, path: str) -> None:
        """Delete a file, if it is there.

        Raises:
            RemoteError: it cannot be deleted.
        """
        self._call(path, or_none(lambda system, place: system.rm_file(place)))

    def _content(self, system: Any, place: str) -> bytes:
        return bytes(system.cat_file(place, **dict(store_of(self.url).read)))

    def _call(self, path: str, act: Callable[[Any, str], T], missing: str = "does not exist") -> T:
        """What `act` returns for the file system and a path in it; it may be called again after it failed."""
        place = f"{self.url}/{path}" if path else self.url
        with one_line(place, missing):
            system, root = opened(self.url)
            return repeated(partial(act, system, f"{root}/{path}" if path else root), self.url)


def check_without_secrets(option: str, text: str) -> None:
    """Check that the URL that an option names has no credentials: URLs are shown, and sent to other machines.

    Raises:
        UsageError: it has.
    """
    protocol, _, rest = text.partition("://")
    user, at, _ = rest.partition("/")[0].partition("@")
    # A key of S3 may have slashes; only its access points, arn:…, have colons.
    has_password = ":" in user and not user.startswith("arn:")
    # abfs://container@account names no user.
    if has_password or (at and protocol not in ("abfs", "abfss")) or "?" in rest:
        place = printable(without_secrets(text)) if "@" in rest or not has_password else f"{printable(protocol)}://…"
        raise UsageError(f"{option} {place}: leave out user, password and query; put credentials in the environment")


def remote_folder(option: str, text: str) -> RemoteFolder:
    """The folder that an option names by a URL.

    Raises:
        UsageError: the URL holds a password, is of an unknown kind, or its package is missing.
    """
    check_without_secrets(option, text)
    protocol, _, rest = text.partition("://")
    place = printable(without_secrets(text))
    if protocol not in STORES:
        raise UsageError(f"{option} {place} is none of {', '.join(f'{known}://' for known in STORES)}")
    if not rest.strip("/"):
        raise UsageError(f"{option} {place} names no folder")
    if protocol == "hf" and not _ON_THE_HUB.fullmatch(rest.rstrip("/")):
        raise UsageError(f"{option} {place} is neither hf://datasets/USER/NAME nor hf://buckets/USER/NAME")
    package = STORES[protocol].package
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise UsageError(f"{option} {place} needs {package}, which is not installed: pip install {package}")
    return RemoteFolder(text.rstrip("/"))


def _stored(info: Mapping[str, Any]) -> StoredFile:
    return StoredFile(int(info.get("size") or 0), stamp(info))
