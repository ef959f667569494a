"""Rows of predictions: of a CSV file of any system, or of what `chexvision predict --out` writes in any format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from chexvision.errors import UsageError
from chexvision.files.json_files import first_problem
from chexvision.files.tables import csv_rows

if TYPE_CHECKING:
    import pyarrow as pa

    from chexvision.predict.result import Result

_STATUS, _IMAGE, _PROBABILITY = "status", "image", "probability_"
_ROWS = 10_000  # read at a time


def predicted_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The heads and then the rows, each with where it stands; no cells for an image without an answer.

    Of a file that `chexvision predict` wrote only the image and the probabilities are given.

    Args:
        path: a CSV file, plain or gzip-compressed, a Parquet file, a folder of Parquet files, or JSON lines of
            ``chexvision predict``.

    Raises:
        UsageError: it cannot be read.
    """
    if path.suffix.lower() == ".jsonl":
        yield from _json_rows(path)
        return
    is_parquet = path.is_dir() or path.suffix.lower() == ".parquet"
    rows = _parquet_rows(path) if is_parquet else csv_rows(path)
    where, heads = next(rows, ("", []))
    named = [head.strip() for head in heads]
    if not (_STATUS in named and _IMAGE in named and any(head.startswith(_PROBABILITY) for head in named)):
        yield where, heads
        yield from rows
        return
    kept = [i for i, head in enumerate(named) if head == _IMAGE or head.startswith(_PROBABILITY)]
    status = named.index(_STATUS)
    yield where, [named[i] for i in kept]
    for where, cells in rows:
        if len(cells) != len(heads):
            raise UsageError(f"{where}: {len(cells)} cells, expected {len(heads)}")
        yield where, [cells[i] for i in kept] if cells[status] == "ok" else []


def _parquet_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise UsageError(f"{path} holds no Parquet file")
    heads: list[str] | None = None
    for file in files:
        try:
            with pq.ParquetFile(file) as opened:
                schema = opened.schema_arrow
                names = [name for name, kind in zip(schema.names, schema.types, strict=True) if _is_cell(kind)]
                if heads is None:
                    yield f"{file}", names
                elif names != heads:
                    raise UsageError(f"{file} has other columns than {files[0].name}")
                heads, row = names, 0
                for batch in opened.iter_batches(_ROWS, columns=names):
                    columns = [batch.column(name).to_pylist() for name in names]
                    for cells in zip(*columns, strict=True):
                        row += 1
                        yield f"{file}, row {row}", ["" if cell is None else str(cell) for cell in cells]
        except FileNotFoundError:
            raise UsageError(f"there is no file {file}") from None
        except (OSError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"{file} cannot be read: {reason}") from None


def _json_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    outputs = next((tuple(one.probabilities) for _, one in _results(path) if one.status == "ok"), ())
    yield f"{path}", [_IMAGE, *(f"{_PROBABILITY}{name}" for name in outputs)]
    for where, one in _results(path):
        if one.status == "ok" and tuple(one.probabilities) != outputs:
            raise UsageError(f"{where}: other findings than in the first row")
        yield where, [one.image, *map(repr, one.probabilities.values())] if one.status == "ok" else []


def _results(path: Path) -> Iterator[tuple[str, Result]]:
    from chexvision.predict.result import Result

    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield f"{path}, line {number}", Result.model_validate_json(line)
    except ValidationError as error:
        raise UsageError(f"{path} is not a file of chexvision predict: {first_problem(error)}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None


def _is_cell(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return not pa.types.is_nested(kind)
