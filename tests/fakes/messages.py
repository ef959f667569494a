"""Requests and responses of the fake servers, and the records that tests read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Record:
    """One request as the server saw it; token values are never kept.

    `auth` says whether credentials were sent, `right_token` whether they were valid, `leaked` whether a
    known secret was in the address or in a header other than `Authorization`. `status` is None when the
    connection was closed before a response.
    """

    method: str
    path: str
    auth: bool
    right_token: bool
    leaked: bool
    user_agent: str
    status: int | None


@dataclass(frozen=True, slots=True)
class Body:
    """The body of one request, kept only when a server was made with `record_bodies=True`."""

    method: str
    path: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """A parsed request. `path` is still percent-encoded, so that `%2F` in a revision survives routing."""

    method: str
    target: str
    path: str
    query: dict[str, list[str]]
    headers: Message
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body or b"null")

    @property
    def bearer(self) -> str | None:
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        return value if scheme == "Bearer" and value else None


@dataclass(frozen=True, slots=True)
class Response:
    """A response: a complete `body`, or a `stream` of pieces (sent chunked)."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    stream: Iterator[bytes] | None = None


class HttpError(Exception):
    """Raised by a handler to respond with an error."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}


def json_response(payload: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    headers = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
    return Response(status, json.dumps(payload).encode(), headers)


def content_response(request: Request, path: Path, headers: dict[str, str]) -> Response:
    """The file at `path`, or the part of it that the `Range` header asks for (206, 416)."""
    size = path.stat().st_size
    headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", "").strip())
    if match is None or match.group(0) == "bytes=-":
        return Response(200, path.read_bytes(), headers)
    first, last = match.groups()
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last) + 1, size) if first and last else size
    if start >= size or start >= stop:
        return Response(416, b"", {**headers, "Content-Range": f"bytes */{size}"})
    with path.open("rb") as file:
        file.seek(start)
        body = file.read(stop - start)
    return Response(206, body, {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"})
