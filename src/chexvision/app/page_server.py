"""A server of the static page on this machine. It knows a fixed set of files and looks at no other path."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from ipaddress import ip_address
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from chexvision.app.page_files import INDEX
from chexvision.errors import ChexError, UsageError

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}
_HEADERS = {
    # Both isolate the page from other origins: browsers then give it shared memory, which threads need.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    # The page can send nothing anywhere else.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' blob: data:; "
        "worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # asks each time whether the file has changed
}


class PageServer(ThreadingHTTPServer):
    """Serves `files`, by their path below the address.

    Args:
        files: contents, or where they are.
        host: to listen on.
        port: 0 for any that is free.

    Raises:
        UsageError: the port is in use, or the host is not an address of this machine.
    """

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # where it would let two servers share a port

    def __init__(self, files: Mapping[str, Path | bytes], host: str, port: int) -> None:
        self.files = files
        if ":" in host:
            import socket

            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UsageError(f"port {port} is in use; choose another with --port, or 0 for any") from None
            if error.errno == errno.EACCES:
                raise UsageError(f"port {port} needs more rights; choose one above 1023 with --port") from None
            raise UsageError(f"--host {host} is not an address of this machine; leave it out for 127.0.0.1") from None
        except OverflowError:
            raise UsageError(f"port {port} is not in 0…65535") from None
        self.address = str(self.server_address[0])
        self.is_loopback = ip_address(self.address).is_loopback

    @property
    def url(self) -> str:
        """Where the page is."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser may close a connection at any time; anything else is reported as usual."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds without a request on an open connection

    def version_string(self) -> str:
        return "chexvision"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        if not self._is_addressed():
            # Another site may have its name point here, and would then read the models.
            self.send_error(HTTPStatus.FORBIDDEN, "this page is for this machine alone")
            return
        name = unquote(urlsplit(self.path).path).removeprefix("/") or INDEX
        content = self.server.files.get(name)
        if content is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            source, tag = _opened(content)
        except OSError:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with source:
            if self.headers.get("If-None-Match") == tag:
                self._start(HTTPStatus.NOT_MODIFIED, {"ETag": tag})
                return
            kind = TYPES.get(PurePosixPath(name).suffix, "application/octet-stream")
            size = source.seek(0, os.SEEK_END)
            source.seek(0)
            self._start(HTTPStatus.OK, {"ETag": tag, "Content-Type": kind, "Content-Length": str(size)})
            if with_body:
                shutil.copyfileobj(source, self.wfile, 1 << 20)

    def _start(self, status: HTTPStatus, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, **_HEADERS}.items():
            self.send_header(name, value)
        self.end_headers()

    def _is_addressed(self) -> bool:
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        return not self.server.is_loopback or host in ("localhost", "127.0.0.1", "::1", self.server.address)


def _opened(content: Path | bytes) -> tuple[BinaryIO, str]:
    """A file's content, and a tag that changes with it."""
    if isinstance(content, bytes):
        return BytesIO(content), f'"{hash(content) & 0xFFFFFFFFFFFFFFFF:x}"'
    source = content.open("rb")
    status = os.fstat(source.fileno())
    return source, f'"{status.st_mtime_ns:x}-{status.st_size:x}"'


def serve(server: PageServer) -> None:
    """Serve until Ctrl-C."""
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


def open_browser(url: str) -> None:
    """Show a page in the user's browser, where there is one."""
    import webbrowser

    try:
        webbrowser.open(url)
    except webbrowser.Error as error:
        raise ChexError(f"no browser could be started ({error}); open {url} yourself") from None
