"""Members of ``.tar``, ``.tar.gz`` and ``.zip`` archives, listed and read without unpacking to disk."""

from __future__ import annotations

import gzip
import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePath
from typing import IO, TypeAlias

from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import regular_size
from chexvision.files.stamps import changed, is_stamp_at, stamp_of, zip_stamp

TARS = (".tar.gz", ".tgz", ".tar")
ZIPS = (".zip",)
# Raised by the archive readers on damaged input.
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,  # an encrypted zip
    OverflowError,
    ValueError,
)

Read: TypeAlias = Callable[[], bytes]
IsWanted: TypeAlias = Callable[[str, Callable[[], IO[bytes] | None]], bool]


def is_archive(path: str | PurePath) -> bool:
    """Whether a file is an archive, by its ending."""
    name = path.name if isinstance(path, PurePath) else path.rpartition("/")[2]
    return name.lower().endswith((*TARS, *ZIPS)) and not name.startswith(".")


def list_members(archive: Path, is_wanted: IsWanted) -> list[tuple[str, str]]:
    """The paths of members, each with its stamp: in archive order. A tar archive is read once.

    Args:
        archive: the file.
        is_wanted: whether to list a member, by its path and a function that opens it.

    Raises:
        UsageError: it cannot be read.
        ChexError: it is damaged, or is changed meanwhile.
    """
    try:
        regular_size(archive)
    except OSError as error:
        raise UsageError(f"{archive} cannot be read: {error.strerror}; remove it") from None
    try:
        if archive.name.lower().endswith(ZIPS):
            with zipfile.ZipFile(archive) as opened:
                files = [info for info in opened.infolist() if not info.is_dir()]
                return [
                    (file.filename, zip_stamp(opened.getinfo(file.filename)))
                    for file in files
                    if _is_wanted_of_zip(opened, file, is_wanted)
                ]
        with archive.open("rb") as file, tarfile.open(fileobj=file, mode="r|*") as stream:
            stamp = stamp_of(os.fstat(file.fileno()))
            members = [
                (member.name, stamp)
                for member in stream
                if member.isfile() and is_wanted(member.name, partial(stream.extractfile, member))
            ]
            if stamp_of(os.fstat(file.fileno())) != stamp:
                raise changed(archive)
            return members
    except (*_DAMAGED, OSError) as error:  # bz2's errors are OSErrors
        raise ChexError(f"{archive} is damaged ({error}); fetch it again") from error


def read_members(archive: Path, stamps: Mapping[str, str], largest: int) -> Iterator[tuple[str, Read]]:
    """Members with a function that reads them; a tar archive is streamed: its bytes are read already.

    Args:
        archive: the file.
        stamps: of each wanted member, by its path; an empty one is not compared.
        largest: bytes of a member; reading a larger one raises ValueError.

    Raises:
        ChexError: it is damaged, or not what it was when its members were listed; reading a member raises it too.
    """
    if archive.name.lower().endswith(ZIPS):
        yield from _read_zip(archive, stamps, largest)
    else:
        yield from _read_tar(archive, stamps, largest)


def _read_tar(archive: Path, stamps: Mapping[str, str], largest: int) -> Iterator[tuple[str, Read]]:
    wanted = dict(stamps)
    try:
        with archive.open("rb") as file, tarfile.open(fileobj=file, mode="r|*") as stream:
            for member in stream:
                if not wanted:
                    break
                stamp = wanted.pop(member.name, None) if member.isfile() else None
                if stamp is not None and (content := stream.extractfile(member)):
                    data = content.read(largest + 1)
                    if stamp and not is_stamp_at(os.fstat(file.fileno()), stamp):
                        raise changed(archive)
                    yield member.name, partial(_not_larger, data, largest)
    except (*_DAMAGED, OSError) as error:
        raise ChexError(f"{archive} is damaged ({error}); fetch it again") from error
    if wanted:
        raise ChexError(f"{archive} was changed: it lacks {min(wanted)}; begin again")


def _read_zip(archive: Path, stamps: Mapping[str, str], largest: int) -> Iterator[tuple[str, Read]]:
    try:
        opened = zipfile.ZipFile(archive)  # stays open as long as any of the functions below exists
    except (*_DAMAGED, OSError) as error:
        raise ChexError(f"{archive} is damaged ({error}); fetch it again") from error
    file = opened.fp.fileno() if opened.fp is not None else -1
    at_first = stamp_of(os.fstat(file))

    def read(member: str) -> bytes:
        try:
            with opened.open(member) as content:
                data = content.read(largest + 1)
        except _DAMAGED as error:
            if stamp_of(os.fstat(file)) != at_first:
                raise changed(archive) from None
            raise ValueError(f"cannot be read from {archive.name}: {error}") from error
        return _not_larger(data, largest)

    for member, stamp in stamps.items():
        info = opened.NameToInfo.get(member)
        if info is None or (stamp and zip_stamp(info) != stamp):
            raise changed(archive)
        yield member, partial(read, member)


def _not_larger(data: bytes, largest: int) -> bytes:
    if len(data) > largest:
        raise ValueError(f"more than {largest >> 20} MiB")
    return data


def _is_wanted_of_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo, is_wanted: IsWanted) -> bool:
    try:
        return is_wanted(info.filename, partial(archive.open, info))
    except _DAMAGED:
        return True  # reported when it is read: the other members are not damaged by it
