"""CSV and text files from outside, plain or gzip-compressed."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

from chexvision.errors import UsageError
from chexvision.files.atomic import read_regular

LARGEST = 2**28  # bytes of text; the metadata of a million images is a quarter of it


def read_text(path: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        UsageError: the file is missing, not a regular file, damaged, too large, or not text.
    """
    try:
        data = read_regular(path, LARGEST)
        return (_decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    except (EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None


def csv_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The rows of a CSV file, heads first, each with where it stands, such as ``labels.csv, line 7``.

    Rows without any content are left out.

    Raises:
        UsageError: as `read_text`, or a cell is longer than the csv module takes.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""))  # splitlines() also splits at U+2028
    try:
        for cells in reader:
            if any(cells):
                yield f"{path}, line {reader.line_num}", cells
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: {error}; is a quote not closed?") from None


def _decompress(data: bytes) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        text = file.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise OSError(f"more than {LARGEST >> 20} MiB uncompressed")
    return text
