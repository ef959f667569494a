"""Decode once: the images of a split as one memory-mapped uint8[N, H, W] array, with CLAHE applied."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from chexvision.data.rows import Rows
from chexvision.data.source import ShardSource
from chexvision.errors import ChexError
from chexvision.files.atomic_folder import atomic_folder, locked
from chexvision.images.preprocessing import Preprocessing
from chexvision.images.radiograph import decode_grey
from chexvision.layout import cache_dir
from chexvision.parallel import map_in_order, usable_cores
from chexvision.shards.columns import encoded_images, opened_shard

# Part of every key: raised when the content of the arrays changes, so that old ones are not found.
_FORMAT = 2
_CHUNK = 32  # images a worker decodes before it reports
_CHECKED_ROWS = 256

OnDecoded = Callable[[int], None]


class Images(Protocol):
    """Images of one size, by their positions."""

    def __getitem__(self, at: int, /) -> NDArray[np.uint8]:
        """uint8[S, S]."""


class Decode(Protocol):
    """`decoded_images`, or `decoded_in_memory`."""

    def __call__(self, source: ShardSource, rows: Rows, preprocessing: Preprocessing, /) -> NDArray[np.uint8]: ...


def decoded_dir() -> Path:
    """Where decoded arrays are kept."""
    return cache_dir() / "decoded"


def decoded_images(
    source: ShardSource, rows: Rows, preprocessing: Preprocessing, on_decoded: OnDecoded | None = None
) -> NDArray[np.uint8]:
    """The images of `rows` as a read-only memory map uint8[N, S, S], S being `preprocessing.image_size`.

    They are decoded by all cores on the first call and found again by the next, in this process or another.

    Args:
        source: the shards `rows` point into.
        rows: which images, in which order.
        preprocessing: applied to each image.
        on_decoded: called with the number of further images that are done, for a progress bar.

    Raises:
        ChexError: the disk is too full, or an image in a shard cannot be read or is smaller than those that the
            model was trained on.
    """
    folder = decoded_dir() / _key(source, rows, preprocessing)
    shape = (len(rows), preprocessing.image_size, preprocessing.image_size)
    found = _open_verified(folder, shape)
    if found is not None:
        return found
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(f"{folder.name}.decoding")):
        found = _open_verified(folder, shape)  # another process may have decoded the same images in between
        if found is not None:
            return found
        _check_space(folder, shape)
        with atomic_folder(folder) as partial:
            _decode_into(partial, source, rows, shape, preprocessing, on_decoded)
    array: NDArray[np.uint8] = np.load(folder / "images.npy", mmap_mode="r")
    return array


def decoded_in_memory(source: ShardSource, rows: Rows, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """As `decoded_images`, for images that are needed once: in memory, not in the cache."""
    images = np.empty((len(rows), preprocessing.image_size, preprocessing.image_size), np.uint8)

    def decode(chunk: tuple[int, list[str], list[bytes]]) -> None:
        for at, (name, data) in enumerate(zip(*chunk[1:], strict=True), chunk[0]):
            images[at] = _prepared(source, name, data, preprocessing)

    for _ in map_in_order(decode, _encoded_chunks(source, rows), usable_cores()):
        pass
    return images


def _prepared(source: ShardSource, name: str, data: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """An encoded image uint8[S, S]."""
    try:
        grey = decode_grey(data)
    except ValueError as error:
        raise ChexError(f"{name} in {source.name}: {error}; run `chexvision shards verify` on it") from None
    if preprocessing.shard_size is not None and min(grey.shape) < preprocessing.image_size:
        raise ChexError(
            f"{name} in {source.name} has {grey.shape[1]}x{grey.shape[0]} pixels, fewer than the model's "
            f"{preprocessing.image_size}x{preprocessing.image_size}; name shards of larger images"
        )
    return preprocessing.apply(grey)


def _key(source: ShardSource, rows: Rows, preprocessing: Preprocessing) -> str:
    settings = json.dumps([_FORMAT, source.identity, preprocessing.model_dump(), len(rows)], sort_keys=True)
    digest = hashlib.sha256(settings.encode())
    digest.update(rows.shard.tobytes())
    digest.update(rows.row.tobytes())
    return digest.hexdigest()[:32]


def _open_verified(folder: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8] | None:
    """The array if it is intact: its shape, and the checksums of evenly spaced rows, are as written."""
    try:
        images: NDArray[np.uint8] = np.load(folder / "images.npy", mmap_mode="r")
        checksums = np.load(folder / "crc32.npy")
    except (FileNotFoundError, ValueError, EOFError):  # the last: empty after a power failure
        return None
    if images.shape != shape or checksums.shape != shape[:1]:
        return None
    sample = np.unique(np.linspace(0, shape[0] - 1, num=min(_CHECKED_ROWS, shape[0]), dtype=np.int64))
    if any(zlib.crc32(images[i]) != checksums[i] for i in sample):
        return None
    return images


def _check_space(folder: Path, shape: tuple[int, int, int]) -> None:
    needed = int(np.prod(shape, dtype=np.int64))
    free = shutil.disk_usage(folder.parent).free
    if free < needed + 64 * 2**20:
        raise ChexError(
            f"{shape[0]} decoded images of {shape[1]}x{shape[2]} need {needed / 1e9:.1f} GB, but {folder.parent} "
            f"has {free / 1e9:.1f} GB free; free some space or set CHEXVISION_CACHE to a larger disk"
        )


def _decode_into(
    folder: Path,
    source: ShardSource,
    rows: Rows,
    shape: tuple[int, int, int],
    preprocessing: Preprocessing,
    on_decoded: OnDecoded | None,
) -> None:
    path = folder / "images.npy"
    header = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape).offset
    checksums = np.zeros(shape[0], np.uint32)
    scratch = threading.local()

    def decode(chunk: tuple[int, list[str], list[bytes]]) -> int:
        start, names, encoded = chunk
        if not hasattr(scratch, "images"):
            scratch.images = np.empty((_CHUNK, *shape[1:]), np.uint8)
        images = scratch.images[: len(names)]
        for i, (name, data) in enumerate(zip(names, encoded, strict=True)):
            images[i] = _prepared(source, name, data, preprocessing)
            checksums[start + i] = zlib.crc32(images[i])
        # Not through the map: its pages would fault one by one, and a full disk would be a bus error.
        written = os.pwrite(file.fileno(), images, header + start * images[0].nbytes)
        if written != images.nbytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return len(names)

    with path.open("r+b") as file:
        for count in map_in_order(decode, _encoded_chunks(source, rows), usable_cores()):
            if on_decoded is not None:
                on_decoded(count)
    np.save(folder / "crc32.npy", checksums)


def _encoded_chunks(source: ShardSource, rows: Rows) -> Iterator[tuple[int, list[str], list[bytes]]]:
    """(position in `rows`, filenames, PNG bytes) in `rows`' order, reading only the row groups that contain some."""
    paths = [path for files in source.shards.values() for path in files]
    for number in np.unique(rows.shard).tolist():
        positions = np.flatnonzero(rows.shard == number)
        wanted = rows.row[positions]
        with opened_shard(paths[number], str(paths[number])) as shard:
            first = 0
            for group in range(shard.metadata.num_row_groups):
                count = shard.metadata.row_group(group).num_rows
                low, high = np.searchsorted(wanted, [first, first + count])
                if low < high:
                    column = shard.read_row_group(group, columns=["image"]).column("image").combine_chunks()
                    encoded = encoded_images(column)
                    for at in range(low, high, _CHUNK):
                        chunk = positions[at : min(at + _CHUNK, high)]
                        data = [encoded[int(i)].as_py() or b"" for i in rows.row[chunk] - first]
                        yield int(chunk[0]), rows.filenames[chunk].tolist(), data
                first += count
