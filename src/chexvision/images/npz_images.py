"""Images that are the rows of an array in an ``.npz`` file, read as a stream: neither unpickled nor all at once."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from chexvision.errors import ChexError
from chexvision.files.archives import Read
from chexvision.files.arrays import DAMAGED
from chexvision.files.atomic import regular_size
from chexvision.files.stamps import changed, zip_stamp
from chexvision.images.radiograph import MOST_PIXELS, encode_grey
from chexvision.images.sources import Found

_MOST_INFLATED = 1040  # deflate makes at most 1032 bytes of one
_LARGEST_SMALL = 2**28  # bytes of an array that is read as a whole


class BadArray(ValueError):
    """An array that is missing or not what was expected; the text names it."""


@dataclass(frozen=True, slots=True)
class ImageArray:
    """A container: uint8[N, H, W] in an ``.npz`` file. The member of an image is its index.

    Args:
        path: the file.
        array: its name there.
    """

    path: Path
    array: str

    def __str__(self) -> str:
        return f"{self.path}/{self.array}"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array.

        Raises:
            BadArray: there is no such array, or it is not uint8[N, H, W] of a size that images have.
            DAMAGED: the file is damaged, or of another kind.
        """
        with _opened(self.path, self.array) as (_, shape, dtype):
            if dtype != np.uint8 or len(shape) != 3:
                raise BadArray(f"{self.array} is {described(shape, dtype)}, expected uint8[N, H, W]")
            if not 0 < shape[1] * shape[2] <= MOST_PIXELS:
                raise BadArray(f"{self.array} has images of {shape[2]}×{shape[1]} pixels")
            return shape

    @property
    def stamp(self) -> str:
        """Of all its images, see `Found`.

        Raises:
            DAMAGED: the file is damaged, or of another kind.
        """
        with zipfile.ZipFile(self.path) as file:
            return zip_stamp(file.getinfo(f"{self.array}.npy"))

    def read(self, images: list[Found]) -> Iterator[tuple[Found, Read]]:
        """Read them as PNG files; earlier rows of the array are decompressed too.

        Raises:
            ChexError: the file is damaged, or no longer what it was.
        """
        by_row = sorted(images, key=lambda found: int(found.member))
        try:
            if any(found.stamp not in ("", self.stamp) for found in images[:1]):
                raise changed(self.path)
            with _opened(self.path, self.array) as (stream, (rows, height, width), _):
                at = 0
                for found in by_row:
                    row = int(found.member)
                    if row >= rows:
                        raise BadArray(f"{self.array} has only {rows:,} images")
                    stream.seek((row - at) * height * width, io.SEEK_CUR)
                    pixels = np.frombuffer(_exactly(stream, height * width), np.uint8).reshape(height, width)
                    at = row + 1
                    yield found, partial(encode_grey, pixels, "png")
        except DAMAGED as error:
            raise ChexError(f"{self.path} is damaged ({error}); fetch it again") from None


def read_small_array(path: Path, name: str) -> NDArray[np.generic]:
    """An array of an ``.npz`` file as a whole, of at most 256 MiB.

    Raises:
        BadArray: there is no such array, it contains objects, or it is larger.
        DAMAGED: the file is damaged, or of another kind.
    """
    with _opened(path, name) as (stream, shape, dtype):
        size = math.prod(shape) * dtype.itemsize
        if size > _LARGEST_SMALL:
            raise BadArray(f"{name} is {described(shape, dtype)}, more than {_LARGEST_SMALL >> 20} MiB")
        return np.frombuffer(_exactly(stream, size), dtype).reshape(shape)


def array_names(path: Path) -> list[str]:
    """The arrays of an ``.npz`` file.

    Raises:
        DAMAGED: the file is damaged, or of another kind.
    """
    regular_size(path)
    with zipfile.ZipFile(path) as file:
        return [name.removesuffix(".npy") for name in file.namelist()]


def described(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> str:
    """An array in words, such as ``uint8[100, 28, 28]``."""
    return f"{dtype}[{', '.join(map(str, shape))}]"


@contextmanager
def _opened(path: Path, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype[np.generic]]]:
    """A stream of an array's bytes, its shape and type."""
    compressed = regular_size(path)
    with zipfile.ZipFile(path) as file:
        try:
            member = file.getinfo(f"{name}.npy")
        except KeyError:
            raise BadArray(f"it has no array {name!r}") from None
        with file.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            if version not in ((1, 0), (2, 0)):
                raise BadArray(f"{name} has version {version[0]}.{version[1]} of numpy's format, expected 1.0 or 2.0")
            read_head = np.lib.format.read_array_header_1_0 if version == (1, 0) else _read_head_2
            shape, in_columns, dtype = read_head(stream)
            size = math.prod(shape) * dtype.itemsize
            if dtype.hasobject:
                raise BadArray(f"{name} contains Python objects, which are not read")
            if in_columns and len(shape) > 1:
                raise BadArray(f"{name} is stored by columns (Fortran order)")
            if stream.tell() + size != member.file_size or member.file_size > _MOST_INFLATED * compressed:
                raise BadArray(f"{name} is announced as {described(shape, dtype)}, which is not what it holds")
            yield stream, shape, dtype


_read_head_2 = np.lib.format.read_array_header_2_0


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise EOFError("it ends early")
    return data
