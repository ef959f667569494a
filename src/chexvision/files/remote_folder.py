"""Folders that are reached by a URL, such as ``s3://bucket/folder``, through fsspec."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from chexvision.errors import UsageError
from chexvision.files.object_stores import (
    STORES,
    RemoteError,
    found,
    is_missing,
    no_holder,
    one_line,
    opened,
    stamp,
    store_of,
    without_secrets,
)
from chexvision.foreign import printable

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
            RemoteError: it cannot be listed, or a path leaves the folder.
        """
        with one_line(self.url, no_holder(self.url)):
            system, root = opened(self.url)
            files = {}
            for path, info in sorted(found(system, root, store_of(self.url)).items()):
                # A name with a slash at its end stands for a folder: some tools make such files.
                if path != root and not path.endswith("/"):
                    files[_inside(path, root)] = StoredFile(int(info.get("size") or 0), stamp(info))
            return files

    def read(self, path: str) -> bytes:
        """The content of a file, all of it in memory: look at its size first.

        Raises:
            RemoteError: it cannot be read.
        """
        with one_line(f"{self.url}/{path}"):
            system, root = opened(self.url)
            return bytes(system.cat_file(f"{root}/{path}", **dict(store_of(self.url).read)))

    def read_small(self, path: str) -> bytes | None:
        """The content of a file as it is now; None if it is not there.

        Raises:
            RemoteError: nobody knows.
        """
        with one_line(f"{self.url}/{path}"):
            system, root = opened(self.url)
            try:
                return bytes(system.cat_file(f"{root}/{path}", **dict(store_of(self.url).read)))
            except Exception as error:
                if is_missing(error):
                    return None
                raise

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
        with one_line(f"{self.url}/{path}"):
            system, root = opened(self.url)
            system.invalidate_cache()
            try:
                info = system.info(f"{root}/{path}")
            except FileNotFoundError:
                return None
            return StoredFile(int(info.get("size") or 0), stamp(info))

    def put(self, file: Path, path: str) -> None:
        """Copy a local file to `path`, where it appears complete or not at all.

        Raises:
            RemoteError: it cannot be written.
        """
        with one_line(f"{self.url}/{path}", no_holder(self.url)):
            system, root = opened(self.url)
            system.put_file(str(file), f"{root}/{path}")

    def write(self, path: str, text: str) -> None:
        """Write a small file.

        Raises:
            RemoteError: it cannot be written.
        """
        with one_line(f"{self.url}/{path}", no_holder(self.url)):
            system, root = opened(self.url)
            system.pipe_file(f"{root}/{path}", text.encode())

    def remove(self, path: str) -> None:
        """Delete a file.

        Raises:
            RemoteError: it cannot be deleted.
        """
        with one_line(f"{self.url}/{path}"):
            system, root = opened(self.url)
            system.rm_file(f"{root}/{path}")


def check_without_secrets(option: str, text: str) -> None:
    """Check that the URL that an option names has no credentials: URLs are shown, and sent to other machines.

    Raises:
        UsageError: it has.
    """
    protocol, _, rest = text.partition("://")
    user, at, _ = rest.partition("/")[0].partition("@")
    # abfs://container@account names no user.
    if (at and (":" in user or protocol not in ("abfs", "abfss"))) or "?" in rest:
        place = printable(without_secrets(text))
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


def _inside(path: str, root: str) -> str:
    """A listed path relative to the folder."""
    relative = path.removeprefix(f"{root}/")
    if relative == path or ".." in PurePosixPath(relative).parts or relative.startswith("/") or "\\" in relative:
        raise RemoteError(f"{printable(path)} is listed, which is outside {root}")
    return relative
