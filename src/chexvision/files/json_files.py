"""Untrusted JSON files, read with bounds and validated."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from chexvision.errors import ChexError
from chexvision.files.atomic import read_regular

_LARGEST = 16 * 2**20  # bytes; a history of a thousand epochs takes 2 MB

T = TypeVar("T", bound=BaseModel)


def read_file(path: Path) -> bytes:
    """The bytes of a file that holds JSON.

    Raises:
        ChexError: it is not a regular file, is too large for one, or cannot be read.
    """
    try:
        return read_regular(path, _LARGEST)
    except OSError as error:
        raise ChexError(f"{path}: {error.strerror or error}") from None


def read_record(path: Path, kind: type[T]) -> T:
    """Read and validate a JSON file.

    Raises:
        ChexError: it cannot be read, is not JSON, or does not fit `kind`; the message names the first problem.
    """
    data = read_file(path)
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise ChexError(f"{path} cannot be used: {first_problem(error)}") from None


def first_problem(error: ValidationError) -> str:
    """The first problem of a pydantic error as part of a line: where it is, what is wrong, and the value."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])[:100]
    message = first["msg"].removeprefix("Value error, ")
    given = first["input"]
    shown = isinstance(given, (str, int, float, bool, type(None))) and first["type"] != "json_invalid"
    return (f"{key}: " if key else "") + message[:300] + (f", got {_short(given)}" if shown else "")


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of more than 4,300 digits has no decimal text
        return "a huge number"
    return text if len(text) <= 80 else f"{text[:79]}…"
