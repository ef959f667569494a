"""What `shards build` reads: local folders and tables as they are, remote ones with their tables fetched."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chexvision.errors import ChexError

if TYPE_CHECKING:
    from chexvision.files.remote_folder import RemoteFolder
    from chexvision.images.remote_images import RemoteImages

_TABLES = (".csv", ".csv.gz", ".txt")
_LARGEST_TABLE = 2**30  # bytes; MIMIC-CXR's largest has 60 MB


@dataclass(frozen=True, slots=True)
class InputPlaces:
    """Where inputs are.

    Args:
        images: local folders and archives; of a remote folder a temporary one with the tables in it.
        remote: remote folders of images.
        table: a local table, or a folder of tables; None: next to the images.
    """

    images: list[Path]
    remote: tuple[RemoteImages, ...]
    table: Path | None


@contextmanager
def input_places(images: Sequence[str], option: str, table: str | None) -> Iterator[InputPlaces]:
    """The places that options name; the tables of remote ones are fetched, and deleted at the end.

    Args:
        images: of ``--images``.
        option: by which the table is named.
        table: its path or URL, or that of a folder of tables.

    Raises:
        UsageError: a URL that is not understood.
        ChexError: a remote folder cannot be read.
    """
    from chexvision.files.remote_folder import is_url, remote_folder
    from chexvision.images.remote_images import RemoteImages

    with tempfile.TemporaryDirectory(prefix="chexvision-tables-") as made:
        local, remote = [], []
        for number, name in enumerate(images):
            if is_url(name):
                folder = remote_folder("--images", name)
                remote.append(RemoteImages(folder))
                # In a folder of its own: readers look for tables above it too.
                local.append(_fetch_tables(folder, Path(made, str(number), "images")))
            else:
                local.append(Path(name))
        found = Path(table) if table is not None else None
        if table is not None and is_url(table):
            found = _fetch_table(remote_folder(option, table), Path(made, "metadata"))
        yield InputPlaces(local, tuple(remote), found)


def _fetch_table(place: RemoteFolder, into: Path) -> Path:
    """A table under its own name, or the folder with those of a remote folder."""
    from chexvision.files.remote_folder import RemoteFolder

    folder, _, name = place.url.rpartition("/")
    if not name.endswith(_TABLES):
        return _fetch_tables(place, into)
    into.mkdir(parents=True)
    (into / name).write_bytes(_read_table(RemoteFolder(folder), name, None))
    return into / name


def _fetch_tables(folder: RemoteFolder, into: Path) -> Path:
    into.mkdir(parents=True)
    for path, file in folder.listed().items():
        if path.endswith(_TABLES):
            target = into / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_read_table(folder, path, file.size))
    return into


def _read_table(folder: RemoteFolder, path: str, size: int | None) -> bytes:
    size = folder.size(path) if size is None else size
    if size is None:
        raise ChexError(f"{folder}/{path} does not exist")
    if size > _LARGEST_TABLE:
        raise ChexError(f"{folder}/{path} has {size:,} bytes, more than {_LARGEST_TABLE >> 20} MiB; is it a table?")
    return folder.read(path)
