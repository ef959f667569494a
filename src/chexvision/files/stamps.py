"""Stamps: short texts that a listing gives without reading a file, equal while its content is the same.

Another content has another stamp. The same content may have one too: a local file that was copied or touched.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import zipfile
from pathlib import Path

from chexvision.errors import ChexError
from chexvision.files.atomic import regular_size

_TIME = " mtime "


def stamp_of(state: os.stat_result) -> str:
    """Of a local file: its size and the time of its last change."""
    return f"{state.st_size}{_TIME}{state.st_mtime_ns}"


def without_time(stamp: str) -> str:
    """The part of a stamp of a local file, or of a tar archive, that stays when the file gets another time."""
    return stamp.partition(_TIME)[0]


def is_stamp_at(state: os.stat_result, stamp: str) -> bool:
    """Whether a local file has the stamp, which may lack the time."""
    return stamp in (stamp_of(state), str(state.st_size))


def stamp_at(path: str | Path) -> str:
    """Of a local file, links followed; empty where there is none that can be read."""
    try:
        return stamp_of(os.stat(path))  # noqa: PTH116  # of millions of files, without a Path for each
    except OSError:
        return ""


def zip_stamp(member: zipfile.ZipInfo) -> str:
    """Of a member of a zip archive: its size and CRC-32, which reading it to its end checks."""
    return f"{member.file_size} {member.CRC:08x}"


def is_stamp_of(data: bytes, stamp: str) -> bool:
    """Whether the stamp of a stored object, ``SIZE KIND HASH``, is by itself known to be that of these bytes.

    False may also mean that nobody can tell: an ETag is an MD5 only of objects of S3 that were uploaded in one part,
    and not encrypted by a key of KMS.

    Args:
        data: all bytes.
        stamp: see `chexvision.files.remote_folder.StoredFile`, after the size.
    """
    size, kind, value = (*stamp.split(" ", 2), "", "")[:3]
    if size != str(len(data)):
        return False
    if kind == "ETag":
        return value.strip('"') == _md5(data).hex()
    if kind == "md5Hash":  # of Google's store
        return value == base64.b64encode(_md5(data)).decode()
    # Of the Hub: what git hashes, the file itself or the text that stands for it in LFS.
    return kind == "blob_id" and value in (_blob_id(data), _blob_id(_lfs_pointer(data)))


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%b" % (len(data), data), usedforsecurity=False).hexdigest()


def _lfs_pointer(data: bytes) -> bytes:
    oid = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n".encode()


def read_as_listed(path: Path, at_most: int, stamp: str) -> bytes:
    """The bytes of an untrusted file, see `read_regular`.

    Args:
        path: the file.
        at_most: bytes.
        stamp: when it was listed; where empty, it is not compared.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger.
        ChexError: it is not what was listed, or is changed while it is read.
    """
    try:
        if regular_size(path) > at_most:
            raise OSError(errno.EINVAL, f"more than {at_most >> 20:,} MiB", str(path))
        with path.open("rb", buffering=0) as file:
            data = file.readall()
            if stamp and not is_stamp_at(os.fstat(file.fileno()), stamp):  # of what was read, whatever is there now
                raise changed(path)
            return data
    except FileNotFoundError:
        if stamp:
            raise changed(path) from None
        raise


def changed(place: object) -> ChexError:
    """The error that names what is not as it was listed."""
    return ChexError(f"{place} was changed, moved or removed after it was listed; start the command again")
