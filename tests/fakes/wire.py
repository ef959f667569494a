"""Shared by the fake servers: HTTP on the loopback, request records, faults on demand.

with FakeHub(tmp_path, token="hf_x") as hub:
    rule = hub.faults.add(r"POST /api/.*/commit/", Fault.status(503), times=2)
    ...
    assert rule.fired == 2
"""

from __future__ import annotations

import re
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import parse_qs, urlsplit

from .faults import Faults
from .messages import Body, HttpError, Record, Request, Response

Handler = Callable[..., Response]


def route(method: str, pattern: str) -> Callable[[Handler], Handler]:
    """Mark a method of a `Wire` as the handler of `METHOD path`; groups become its keyword arguments."""

    def mark(handler: Handler) -> Handler:
        handler.__dict__.setdefault("routes", []).append((method, re.compile(pattern)))
        return handler

    return mark


class Wire:
    """A loopback HTTP server. Subclasses mark handlers with `route` and define which credentials are valid."""

    unrecorded_bodies: ClassVar[str] = r"(?!)"

    def __init__(self, *, record_bodies: bool = False) -> None:
        self.requests: list[Record] = []
        self.bodies: list[Body] = []
        self.faults = Faults()
        self.lock = threading.RLock()
        self.closing = threading.Event()
        self._record_bodies = record_bodies
        self._servers: list[_Server] = []
        self._routes = [
            (method, pattern, name)
            for name in dir(type(self))
            for method, pattern in getattr(getattr(type(self), name), "routes", [])
        ]

    def listen(self) -> str:
        """Open one more port for the same handlers and return its address."""
        server = _Server(("127.0.0.1", 0), _Handler)
        server.wire = self
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self._servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server: close its ports and every open connection."""
        self.closing.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()
            for connection in list(server.connections):
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def secrets(self) -> list[str]:
        """Values that must not appear outside an `Authorization` header."""
        return []

    def is_right(self, request: Request) -> bool:
        """Whether the request's credentials are valid ones."""
        raise NotImplementedError

    def error_response(self, status: int, message: str, headers: dict[str, str]) -> Response:
        """An error in the service's own form."""
        raise NotImplementedError

    def answer(self, request: Request) -> Response:
        """Route a request to its handler."""
        for method, pattern, name in self._routes:
            if method == request.method and (match := pattern.fullmatch(request.path)):
                try:
                    response: Response = getattr(self, name)(request, **match.groupdict())
                except HttpError as error:
                    return self.error_response(error.status, error.message, error.headers)
                return response
        return self.error_response(404, f"no such route: {request.method} {request.path}", {})

    def record(self, request: Request, status: int | None) -> None:
        others = [request.target, *(v for k, v in request.headers.items() if k.lower() != "authorization")]
        path, agent = request.target, request.headers.get("User-Agent", "")
        for secret in self.secrets():
            path, agent = path.replace(secret, "***"), agent.replace(secret, "***")
        record = Record(
            method=request.method,
            path=path,
            auth="Authorization" in request.headers,
            right_token=self.is_right(request),
            leaked=any(secret in text for secret in self.secrets() for text in others),
            user_agent=agent,
            status=status,
        )
        with self.lock:
            self.requests.append(record)
            if self._record_bodies and not re.search(self.unrecorded_bodies, request.target):
                self.bodies.append(Body(request.method, path, request.body))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    wire: Wire

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(address, handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's own method resolves its host name first

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report errors other than a closed connection."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: tests read `requests`."""

    def _serve(self) -> None:
        wire = self.server.wire
        fault = wire.faults.take(f"{self.command} {self.path}")
        if fault is not None and fault.kind == "disconnect-request":
            self.rfile.read(min(fault.after_bytes, int(self.headers.get("Content-Length", 0))))
            wire.record(self._request(b""), None)
            return self._hang_up()
        request = self._request(self._read_body())
        if fault is not None and fault.kind == "status":
            response = wire.error_response(fault.code, fault.message, fault.headers)
        else:
            response = wire.answer(request)
        if fault is not None and fault.kind == "lose-response":
            wire.record(request, None)
            return self._hang_up()
        cut = fault.after_bytes if fault is not None and fault.kind == "disconnect-response" else None
        wire.record(request, response.status if cut is None else None)
        self._send(response, cut)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _serve

    def _request(self, body: bytes) -> Request:
        url = urlsplit(self.path)
        query = parse_qs(url.query, keep_blank_values=True)
        return Request(self.command, self.path, url.path, query, self.headers, body)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            if len(body) != length:
                raise ConnectionResetError("the client hung up in the middle of its request")
            return body
        pieces: list[bytes] = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _send(self, response: Response, cut: int | None) -> None:
        body = b"" if self.command == "HEAD" else response.body
        if cut is not None and not body and response.stream is None:
            return self._hang_up()
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.stream is not None:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            return self._send_stream(response.stream, cut)
        if "Content-Length" not in response.headers:
            self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if cut is not None:
            self.wfile.write(body[: min(cut, len(body) - 1)])
            return self._hang_up()
        self.wfile.write(body)
        self.wfile.flush()

    def _send_stream(self, stream: Iterator[bytes], cut: int | None) -> None:
        sent = 0
        for piece in stream:
            if cut is not None and sent + len(piece) > cut:
                return self._hang_up()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
            sent += len(piece)
        if cut is not None:
            return self._hang_up()
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
