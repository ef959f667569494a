"""Where raw images come from: folders, `.tar.gz` and `.zip` archives, read without unpacking to disk; and others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from chexvision.errors import UsageError
from chexvision.files.archives import TARS, ZIPS, Read, is_archive, list_members, read_members
from chexvision.files.atomic import regular_size
from chexvision.files.stamps import read_as_listed, stamp_at
from chexvision.images.dicom_elements import is_dicom

_IMAGES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")
_HEAD = 132  # bytes that tell a DICOM file
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

    def members(self) -> Mapping[str, str]:
        """The paths of the images inside, each with its stamp, see `Found`."""


@dataclass(frozen=True, slots=True)
class Found:
    """One image in a source, as any process can find it again.

    Args:
        name: the file's own name, without folders, or all of its path as one name.
        container: the local folder or archive that holds it, or another place.
        member: its path inside the container.
        stamp: what the listing said of its content, see `chexvision.files.stamps`; empty where nothing was said, or
            where the container cannot change. What is read is compared with it.
    """

    name: str
    container: Path | Container
    member: str
    stamp: str = ""

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
    containers: dict[Path | ListedContainer, Sequence[tuple[str, str]]] = {}
    for source in sources:
        for place, members in _containers(source):
            containers.setdefault(place, members)
    by_first_name = sorted(containers.items(), key=lambda item: (_first_name(item[1]), str(item[0])))
    images: dict[str, Found] = {}
    duplicates: list[Found] = []
    for container, members in by_first_name:
        for member, stamp in members:
            found = Found(flat_name(member) if by_path else _own_name(member), container, member, stamp)
            if images.setdefault(found.name, found) is not found:
                duplicates.append(found)
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
        ChexError: an archive is damaged; or it, or an image that is read, is not what was found.
    """
    by_container: dict[Path | Container, list[Found]] = {}
    for found in images:
        by_container.setdefault(found.container, []).append(found)
    for container, members in by_container.items():
        if not isinstance(container, Path):
            yield from container.read(members)
        elif container.is_dir():
            reads = (partial(read_as_listed, container / found.member, LARGEST, found.stamp) for found in members)
            yield from zip(members, reads, strict=True)
        else:
            by_path = {found.member: found for found in members}
            stamps = {member: found.stamp for member, found in by_path.items()}
            yield from ((by_path[member], read) for member, read in read_members(container, stamps, LARGEST))


def _containers(source: Path | ListedContainer) -> Iterator[tuple[Path | ListedContainer, Sequence[tuple[str, str]]]]:
    if not isinstance(source, Path):
        yield source, sorted(source.members().items(), key=_by_name)
    elif source.is_dir():
        loose = []
        for root, names in _walk(source):
            inside = "" if root == str(source) else f"{Path(root).relative_to(source).as_posix()}/"
            for name in names:
                if is_image_name(name) or (not is_archive(name) and is_image_file(Path(root, name))):
                    loose.append((inside + name, stamp_at(f"{root}/{name}")))
                elif is_archive(name):
                    yield Path(root, name), members_of(Path(root, name))
        if loose:
            yield source, sorted(loose, key=_by_name)
    elif source.is_file() and is_archive(source):
        yield source, members_of(source)
    elif source.exists():
        raise UsageError(f"--images {source} is neither a folder nor one of {', '.join((*TARS, *ZIPS))}")
    else:
        raise UsageError(f"--images {source} does not exist")


def walk_files(folder: Path) -> Iterator[Path]:
    """All files below `folder`, sorted; links to folders are followed once each.

    A folder with the name of an image is listed too.
    """
    for root, names in _walk(folder):
        yield from (Path(root, name) for name in names)


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The folders below with the names of their files, see `walk_files`: no object is made for each of millions."""

    def refuse(error: OSError) -> None:
        raise error  # else the images of an unreadable folder would be missing silently

    seen: set[str] = set()
    for root, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        here = os.path.realpath(root)
        if here in seen:
            folders.clear()
            continue
        seen.add(here)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield root, sorted((*files, *(name for name in folders if is_image_name(name))))


def members_of(archive: Path) -> list[tuple[str, str]]:
    """The paths of the images in an archive, with their stamps: by name for a zip, in archive order for a tar.

    Raises:
        UsageError: it cannot be read.
        ChexError: it is damaged.
    """
    members = list_members(archive, _is_image)
    return sorted(members, key=_by_name) if archive.name.lower().endswith(ZIPS) else members


def is_image_name(name: str) -> bool:
    """Whether a file's name ends as those of images do."""
    own = _own_name(name)
    return own.lower().endswith(_IMAGES) and not own.startswith(".")


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


def _own_name(member: str) -> str:
    return member.rpartition("/")[2]


def _by_name(listed: tuple[str, str]) -> tuple[str, str]:
    return _own_name(listed[0]), listed[0]


def _first_name(members: Sequence[tuple[str, str]]) -> str:
    return min((_own_name(member) for member, _ in members), default="")
