"""Results as CSV, JSON lines or Parquet, one row per image, written without holding all of them in memory."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from glob import escape as glob_escape
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from chexvision.errors import UsageError
from chexvision.files.atomic import atomic_path
from chexvision.predict.result import FORMAT, Result, Value

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_OF_A_GROUP = 1000  # about 200 kB of a Parquet file
ROWS_OF_A_PART = 100_000  # of a folder's file, about 20 MB
# A cell that starts with one of these is a formula to a spreadsheet (OWASP, "CSV Injection"); the last four are the
# full-width forms, which some programs take as well.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

Writer = Callable[[Path, tuple[str, ...], Iterable[Result]], None]


def writer_for(out: Path) -> Writer:
    """The function that writes the format of a file's ending: from a path, the outputs' names, and the results.

    Raises:
        UsageError: there is none for it, or it is a folder's own path without a name.
        ModuleNotFoundError: for Parquet, pyarrow is not installed.
    """
    writer = _WRITERS.get(out.suffix.lower())
    if not out.name:
        raise UsageError(f"--out {out} names no file; write its name, such as results.parquet")
    if writer is None:
        raise UsageError(
            f"--out {out}: the name must end in one of {', '.join(filter(None, _WRITERS))}; a name without an ending "
            "is a folder of Parquet files"
        )
    if writer is _write_parquet:
        import pyarrow.parquet  # noqa: F401 - that it is missing is found before anything is predicted
    return writer


def write_results(out: Path, outputs: tuple[str, ...], results: Iterable[Result]) -> None:
    """Write all results to `out`, which appears complete or not at all.

    A name without an ending is a folder: files ``part-00000.parquet`` and so on, of `ROWS_OF_A_PART` rows each.

    Raises:
        OSError: it cannot be written.
    """
    if out.suffix:
        with atomic_path(out) as partial:
            writer_for(out)(partial, outputs, results)
        return
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        remaining = iter(results)
        for number, first in enumerate(remaining):
            rows = chain([first], islice(remaining, ROWS_OF_A_PART - 1))
            _write_parquet(partial / f"part-{number:05}.parquet", outputs, rows)
        if out.exists():  # of a process that was killed before it removed what it had computed
            for part in out.glob("part-*.parquet"):
                part.unlink()
            out.rmdir()  # fails where there is anything else
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_leftovers(out: Path) -> None:
    """Remove what a process left that was killed while it wrote `out`."""
    for left in out.parent.glob(f".{glob_escape(out.name)}.*.partial"):
        # That of another file may begin with the same name: of `results`, .results.csv.12.partial is not.
        if not left.name.removeprefix(f".{out.name}.").removesuffix(".partial").isdigit():
            continue
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()


def safe_cell(text: str) -> str:
    """A text as the cell of a CSV file: an apostrophe is put before what a spreadsheet would calculate."""
    return f"'{text}" if text.startswith(_FORMULAS) else text


def _write_csv(path: Path, outputs: tuple[str, ...], results: Iterable[Result]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[str] | None = None
        for result in results:
            row = {name: _cell(value) for name, value in result.columns(outputs).items()}
            if writer is None:
                writer = csv.DictWriter(file, row, lineterminator="\n")
                writer.writeheader()
            writer.writerow(row)


def _cell(value: Value) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return repr(value)
        case list():
            return safe_cell(" | ".join(value))
        case _:
            return safe_cell(value)


def _write_json_lines(path: Path, outputs: tuple[str, ...], results: Iterable[Result]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{result.model_dump_json()}\n" for result in results)


def _write_parquet(path: Path, outputs: tuple[str, ...], results: Iterable[Result]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    remaining = iter(results)
    first = next(remaining)
    about = {"format": FORMAT, "engine": first.engine, "model": json.loads(first.model_dump_json())["model"]}
    schema = _schema(first, outputs).with_metadata({"chexvision": json.dumps(about)})
    with pq.ParquetWriter(path, schema) as writer:
        for rows in _groups(first, remaining):
            columns = [result.columns(outputs) for result in rows]
            writer.write_table(pa.Table.from_pylist(columns, schema), row_group_size=ROWS_OF_A_GROUP)


def _groups(first: Result, remaining: Iterator[Result]) -> Iterator[list[Result]]:
    rows = [first]
    while rows:
        rows += islice(remaining, ROWS_OF_A_GROUP - len(rows))
        yield rows
        rows = [*islice(remaining, 1)]


def _schema(result: Result, outputs: tuple[str, ...]) -> pa.Schema:
    import pyarrow as pa

    def kind(name: str) -> pa.DataType:
        if name.startswith(("probability_", "threshold_")):
            return pa.float64()
        if name.startswith("call_") or name in ("trained_on_synthetic_images", "calibrated"):
            return pa.bool_()
        return pa.list_(pa.string()) if name in ("warnings", "notes") else pa.string()

    return pa.schema([(name, kind(name)) for name in result.columns(outputs)])


_WRITERS: dict[str, Writer] = {
    ".csv": _write_csv,
    ".jsonl": _write_json_lines,
    ".parquet": _write_parquet,
    "": _write_parquet,  # each file of a folder
}
