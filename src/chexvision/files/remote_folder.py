"""Folders that are reached by a URL, such as ``s3://bucket/folder``, through fsspec."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from chexvision.errors import ChexError, UsageError
from chexvision.foreign import printable

# The package that reads each kind of URL.
_PACKAGES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "hf": "huggingface_hub",
}
# What the listings of these packages say of the content, hashes first: s3fs ETag; gcsfs md5Hash, of composed objects
# crc32c; adlfs etag; huggingface_hub blob_id, in buckets xet_hash. A time says less.
_STAMPS = ("blob_id", "xet_hash", "md5Hash", "crc32c", "etag", "ETag", "LastModified", "last_modified", "mtime")
_SECRET = re.compile(r"(?<=://)[^/@\s]+@|\?[^\s\"']+")  # user:password@, and queries, which may be signed


class RemoteError(ChexError):
    """A remote folder cannot be read or written."""


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
        with _one_line(self.url):
            system, root = self._opened()
            system.invalidate_cache()
            try:
                found = system.find(root, detail=True)
            except FileNotFoundError:
                return {}
        files = {}
        for path, info in sorted(found.items()):
            if path != root:
                files[_inside(path, root)] = StoredFile(int(info.get("size") or 0), _stamp(info))
        return files

    def read(self, path: str) -> bytes:
        """The content of a file, all of it in memory: look at its size first.

        Raises:
            RemoteError: it cannot be read.
        """
        with _one_line(f"{self.url}/{path}"):
            system, root = self._opened()
            return bytes(system.cat_file(f"{root}/{path}"))

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
        with _one_line(f"{self.url}/{path}"):
            system, root = self._opened()
            system.invalidate_cache()
            try:
                info = system.info(f"{root}/{path}")
            except FileNotFoundError:
                return None
        return StoredFile(int(info.get("size") or 0), _stamp(info))

    def put(self, file: Path, path: str) -> None:
        """Copy a local file to `path`, where it appears complete or not at all.

        Raises:
            RemoteError: it cannot be written.
        """
        with _one_line(f"{self.url}/{path}"):
            system, root = self._opened()
            system.put_file(str(file), f"{root}/{path}")

    def write(self, path: str, text: str) -> None:
        """Write a small file.

        Raises:
            RemoteError: it cannot be written.
        """
        with _one_line(f"{self.url}/{path}"):
            system, root = self._opened()
            system.pipe_file(f"{root}/{path}", text.encode())

    def remove(self, path: str) -> None:
        """Delete a file.

        Raises:
            RemoteError: it cannot be deleted.
        """
        with _one_line(f"{self.url}/{path}"):
            system, root = self._opened()
            system.rm_file(f"{root}/{path}")

    def _opened(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        system, root = url_to_fs(self.url)
        return system, str(root).rstrip("/")


def check_without_secrets(option: str, text: str) -> None:
    """Check that the URL that an option names has no credentials: URLs are shown, and sent to other machines.

    Raises:
        UsageError: it has.
    """
    protocol, _, rest = text.partition("://")
    user, at, _ = rest.partition("/")[0].partition("@")
    # abfs://container@account names no user.
    if (at and (":" in user or protocol not in ("abfs", "abfss"))) or "?" in rest:
        place = printable(_SECRET.sub("", text))
        raise UsageError(f"{option} {place}: leave out user, password and query; put credentials in the environment")


def remote_folder(option: str, text: str) -> RemoteFolder:
    """The folder that an option names by a URL.

    Raises:
        UsageError: the URL holds a password, is of an unknown kind, or its package is missing.
    """
    check_without_secrets(option, text)
    protocol, _, rest = text.partition("://")
    place = printable(_SECRET.sub("", text))
    if protocol not in _PACKAGES:
        raise UsageError(f"{option} {place} is none of {', '.join(f'{known}://' for known in _PACKAGES)}")
    if not rest.strip("/"):
        raise UsageError(f"{option} {place} names no folder")
    package = _PACKAGES[protocol]
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise UsageError(f"{option} {place} needs {package}, which is not installed: pip install {package}")
    return RemoteFolder(text.rstrip("/"))


def _stamp(info: Mapping[str, Any]) -> str:
    return next((f"{key} {info[key]}" for key in _STAMPS if info.get(key)), "")


def _inside(path: str, root: str) -> str:
    """A listed path relative to the folder."""
    relative = path.removeprefix(f"{root}/")
    if relative == path or ".." in PurePosixPath(relative).parts or relative.startswith("/") or "\\" in relative:
        raise RemoteError(f"{printable(path)} is listed, which is outside {root}")
    return relative


@contextmanager
def _one_line(place: str) -> Iterator[None]:
    """Whatever a protocol's package raises, as one line without secrets. The packages retry lost connections."""
    try:
        yield
    except ChexError:
        raise
    except FileNotFoundError:
        raise RemoteError(f"{place} does not exist") from None
    except PermissionError as error:
        raise RemoteError(f"{place}: access denied{_told(error)}; check the credentials of this machine") from None
    except Exception as error:  # noqa: BLE001  # each package has errors of its own
        raise RemoteError(f"{place} cannot be reached: {type(error).__name__}{_told(error)}") from None


def _told(error: Exception) -> str:
    text = " ".join(_SECRET.sub("", str(error)).split())
    return f" ({printable(text[:200])})" if text else ""
