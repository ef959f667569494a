"""``.npz`` files: written atomically, and read with bounds and without unpickling, as they may be untrusted."""

from __future__ import annotations

import io
import lzma
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chexvision.files.atomic import atomic_path, read_regular

DAMAGED = (  # what numpy and zipfile raise for files that are damaged or of another kind
    OSError, ValueError, KeyError, EOFError, MemoryError, OverflowError, TypeError, SyntaxError, RuntimeError,
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, tokenize.TokenError,
)  # fmt: skip


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write arrays to an ``.npz`` file; equal arrays give equal bytes."""
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.savez(file, **dict[str, Any](arrays))


def read_arrays(path: Path, largest: int) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz`` file by name.

    Args:
        path: the file.
        largest: bytes of the file, and of all arrays together.

    Raises:
        DAMAGED: the file is missing, larger, damaged, of another kind, or contains objects.
    """
    data = read_regular(path, largest)
    with zipfile.ZipFile(io.BytesIO(data)) as members:
        if sum(member.file_size for member in members.infolist()) > largest:
            raise ValueError(f"arrays of more than {largest >> 20} MiB")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: np.asarray(arrays[name]) for name in arrays.files}
