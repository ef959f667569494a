"""Where raw images come from: folders, `.tar.gz` and `.zip` archives, read without unpacking to disk; and others."""

from __future__ import annotations

import gzip
import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Protocol, TypeAlias

from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import read_regular, regular_size
from chexvision.images.dicom_elements import is_dicom

_IMAGES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")
_HEAD = 132  # bytes that tell a DICOM file
_TARS = (".tar.gz", ".tgz", ".tar")
_ZIPS = (".zip",)
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
LARGEST = 2**28  # bytes of an image file: 16-bit pixels of 11,000², not compressed


class Container(Protocol):
    """What holds images and is neither a local folder nor a local archive.

    Equal for equal places, hashable, and picklable: another process reads by a copy. ``str`` names it in messages.
    """

    def read(self, images: list[Found]) -> Iterator[tuple[Found, Read]]:
        """See `read_images`; all of `images` are in this container."""

    def __hash__(self) -> int: ...


class ListedContainer(Container, Protocol):
    """A container that may be named next to local folders and archives."""

    def members(self) -> list[str]:
        """The paths of the images inside."""


@dataclass(frozen=True, slots=True)
class Found:
    """One image in a source, as any process can find it again."""

    name: str  # the file's own name, without folders, or all of its path as one name
    container: Path | Container  # the local folder or archive that holds it, or another place
    member: str  # its path inside the container

    @property
    def file(self) -> Path | None:
        """Where it is in a local folder; None of a member of an archive, and of other places."""
        if isinstance(self.container, Path) and self.container.is_dir():
            return self.container / self.member
        return None

    @property
    def path(self) -> str:
        """Where it is, as its container was named; of a member of an archive ``ARCHIVE/MEMBER``."""
        # Not by "/" of Path in an archive: a member may have an absolute name.
        if isinstance(self.container, Path) and not is_archive(self.container):
            return str(self.container / self.member)
        return f"{self.container}/{self.member}"


Read: TypeAlias = Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Index:
    """All images of the sources. `images` are in the order in which `read_images` meets them."""

    images: tuple[Found, ...]
    duplicates: tuple[Found, ...]  # more files with a name that is in `images`


def find_images(sources: Sequence[Path | ListedContainer], *, by_path: bool = False) -> Index:
    """List the images in `sources`: folders (with archives in them), archives and others.

    The order does not depend on the file system. A tar archive is read once to list its members.

    Args:
        sources: the places.
        by_path: name an image by its whole path in its folder or archive, see `flat_name`, not by the file alone:
            for sets that have a file of the same name in several folders.

    Raises:
        UsageError: a source is missing or is neither a folder nor an archive, or no image is found.
        ChexError: an archive is damaged.
    """
    containers: dict[Path | ListedContainer, list[str]] = {}
    for source in sources:
        for place, members in _containers(source):
            containers.setdefault(place, members)
    by_first_name = sorted(containers.items(), key=lambda item: (_first_name(item[1]), str(item[0])))
    images: dict[str, Found] = {}
    duplicates: list[Found] = []
    for container, members in by_first_name:
        for member in members:
            found = Found(flat_name(member) if by_path else PurePosixPath(member).name, container, member)
            if found.name in images:
                duplicates.append(found)
            else:
                images[found.name] = found
    if not images:
        listed = ", ".join(str(source) for source in sources)
        raise UsageError(f"no PNG, JPEG or DICOM file in {listed}; name the folder that holds images_001 and so on")
    return Index(tuple(images.values()), tuple(duplicates))


def flat_name(path: str) -> str:
    """A path as one name: ``patient1/study2/view.png`` is ``patient1__study2__view.png``."""
    return "__".join(part for part in PurePosixPath(path).parts if part not in ("/", "."))


def read_images(images: list[Found]) -> Iterator[tuple[Found, Read]]:
    """Each image with a function that reads its bytes; call it in any thread, before or after the next.

    Each container is read once, in the order in which they are met in `images`; the images of a container may come
    in another order than they are named. Tar archives are streamed: their bytes are read already when an image is
    yielded. Reading a file or a zip member may raise OSError or ValueError.

    Args:
        images: any of those that were found, by this process or another one.

    Raises:
        ChexError: an archive is damaged, or lacks an image that was found in it.
    """
    by_container: dict[Path | Container, list[Found]] = {}
    for found in images:
        by_container.setdefault(found.container, []).append(found)
    for container, members in by_container.items():
        if not isinstance(container, Path):
            yield from container.read(members)
        elif container.is_dir():
            yield from ((found, partial(read_regular, container / found.member, LARGEST)) for found in members)
        elif container.name.lower().endswith(_ZIPS):
            yield from _read_zip(container, members)
        else:
            yield from _read_tar(container, members)


def _containers(source: Path | ListedContainer) -> Iterator[tuple[Path | ListedContainer, list[str]]]:
    if not isinstance(source, Path):
        yield source, sorted(source.members(), key=_by_name)
    elif source.is_dir():
        loose = []
        for path in walk_files(source):
            if is_archive(path):
                yield path, members_of(path)
            elif is_image_file(path):
                loose.append(path.relative_to(source).as_posix())
        if loose:
            yield source, sorted(loose, key=_by_name)
    elif source.is_file() and is_archive(source):
        yield source, members_of(source)
    elif source.exists():
        raise UsageError(f"--images {source} is neither a folder nor one of {', '.join((*_TARS, *_ZIPS))}")
    else:
        raise UsageError(f"--images {source} does not exist")


def walk_files(folder: Path) -> Iterator[Path]:
    """All files below `folder`, sorted; links to folders are followed once each.

    A folder with the name of an image is listed too.
    """

    def refuse(error: OSError) -> None:
        raise error  # else the images of an unreadable folder would be missing silently

    seen: set[Path] = set()
    for root, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        here = Path(root).resolve()
        if here in seen:
            folders.clear()
            continue
        seen.add(here)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        images = [name for name in folders if is_image_name(name)]
        yield from (Path(root, name) for name in sorted((*files, *images)))


def members_of(archive: Path) -> list[str]:
    """The images in an archive: by name for a zip, in archive order for a tar."""
    try:
        regular_size(archive)
    except OSError as error:
        raise UsageError(f"{archive} cannot be read: {error.strerror}; remove it") from None
    try:
        if archive.name.lower().endswith(_ZIPS):
            with zipfile.ZipFile(archive) as opened:
                files = [info for info in opened.infolist() if not info.is_dir()]
                return sorted((file.filename for file in files if _is_zipped_image(opened, file)), key=_by_name)
        with tarfile.open(archive, "r|*") as stream:
            return [
                member.name
                for member in stream
                if member.isfile() and _is_image(member.name, partial(stream.extractfile, member))
            ]
    except (*_DAMAGED, OSError) as error:  # bz2's errors are OSErrors
        raise ChexError(f"{archive} is damaged ({error}); fetch it again") from error


def _read_tar(archive: Path, members: list[Found]) -> Iterator[tuple[Found, Read]]:
    wanted = {found.member: found for found in members}
    try:
        with tarfile.open(archive, "r|*") as stream:
            for member in stream:
                if not wanted:
                    break
                found = wanted.pop(member.name, None) if member.isfile() else None
                if found and (file := stream.extractfile(member)):
                    data = file.read(LARGEST + 1)
                    yield found, partial(_not_too_large, data)
    except (*_DAMAGED, OSError) as error:
        raise ChexError(f"{archive} is damaged ({error}); fetch it again") from error
    if wanted:
        raise ChexError(f"{archive} was changed: it lacks {min(wanted)}; begin again")


def _read_zip(archive: Path, members: list[Found]) -> Iterator[tuple[Found, Read]]:
    opened = zipfile.ZipFile(archive)  # stays open as long as any of the functions below exists

    def read(member: str) -> bytes:
        try:
            with opened.open(member) as file:
                data = file.read(LARGEST + 1)
        except _DAMAGED as error:
            raise ValueError(f"cannot be read from {archive.name}: {error}") from error
        return _not_too_large(data)

    yield from ((found, partial(read, found.member)) for found in members)


def _not_too_large(data: bytes) -> bytes:
    if len(data) > LARGEST:
        raise ValueError(f"more than {LARGEST >> 20} MiB")
    return data


def _is_named(path: PurePath, endings: tuple[str, ...]) -> bool:
    return path.name.lower().endswith(endings) and not path.name.startswith(".")


def is_archive(path: PurePath) -> bool:
    """Whether a file is an archive of images, by its ending."""
    return _is_named(path, (*_TARS, *_ZIPS))


def is_image_name(name: str) -> bool:
    """Whether a file's name ends as those of images do."""
    return _is_named(PurePosixPath(name), _IMAGES)


def is_image_file(path: Path) -> bool:
    """Whether a file is an image by its name, or a DICOM file without an ending by its content."""

    def opened() -> IO[bytes]:
        regular_size(path)  # to open a FIFO would block
        return path.open("rb")

    return _is_image(path.name, opened)


def _is_image(name: str, opened: Callable[[], IO[bytes] | None]) -> bool:
    """DICOM files are named IM000001, or by an identifier such as 1.2.840.113619.2; DICOMDIR lists them."""
    path = PurePosixPath(name)
    if is_image_name(name) or path.name.startswith(".") or path.name.upper() == "DICOMDIR":
        return is_image_name(name)
    if path.suffix and not path.suffix[1:].isdigit():
        return False
    try:
        file = opened()
        if file is None:
            return False
        with file:
            return is_dicom(file.read(_HEAD))
    except PermissionError:
        return True  # it may be an image, and is reported when it is read
    except OSError:
        return False


def _is_zipped_image(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bool:
    try:
        return _is_image(info.filename, partial(archive.open, info))
    except _DAMAGED:
        return True  # reported when it is read: the other members are not damaged by it


def _by_name(member: str) -> tuple[str, str]:
    return PurePosixPath(member).name, member


def _first_name(members: list[str]) -> str:
    return min((PurePosixPath(member).name for member in members), default="")
