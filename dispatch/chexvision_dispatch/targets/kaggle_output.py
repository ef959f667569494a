"""What a Kaggle session writes: its log as it comes, and the files it leaves."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from chexvision.errors import ChexError
from chexvision.files.atomic import atomic_path
from chexvision.retry import retried
from chexvision_dispatch.targets import kaggle_client as client
from chexvision_dispatch.targets.session_log import session_log
from chexvision_dispatch.targets.target import SessionState

SILENCE_S = 3.0  # the log of a running session is shown up to where nothing comes for so long
_PAGE_SIZE = 100
_CHUNK = 1 << 20


def log(api: Any, kernel: str, state: Callable[[], SessionState], *, follow: bool) -> Iterator[str]:
    """What the last session of `kernel` wrote, from its beginning; with `follow` until it ends.

    Raises:
        ChexError: Kaggle does not answer; with `follow` only what waiting does not help against.
    """
    from requests import RequestException

    def stream(ended: bool) -> Iterator[str]:
        try:
            events = api.kernels_logs_stream(kernel)
            yield from _texts(events if follow or ended else _until_silent(events))
        except ValueError as error:
            raise ChexError(f"Kaggle shows no log of {kernel}: {error}") from None
        except RequestException as error:
            raise client.explained(error, f"while sending the log of {kernel}") from error

    return session_log(stream, state, follow=follow)


def _texts(events: Iterator[object]) -> Iterator[str]:
    """The text of events as complete lines: some come without their newline, and some are empty."""
    for event in events:
        data = event.get("data") if isinstance(event, dict) else event
        if data is not None:
            text = str(data)
            yield text if text.endswith(("\n", "\r")) else f"{text}\n"  # \r: a progress bar


def _until_silent(events: Iterator[dict[str, str]]) -> Iterator[dict[str, str]]:
    """Events until none comes for a while: a running session's stream does not end."""
    waiting: queue.Queue[dict[str, str] | Exception | None] = queue.Queue()

    def read() -> None:
        try:
            for event in events:
                waiting.put(event)
            waiting.put(None)
        except Exception as error:  # noqa: BLE001 - raised again where it is read
            waiting.put(error)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            event = waiting.get(timeout=SILENCE_S)
        except queue.Empty:
            return
        if event is None:
            return
        if isinstance(event, Exception):
            raise event
        yield event


def download(api: Any, kernel: str, folder: Path, names: Sequence[str]) -> None:
    """Download files of these names, or in folders of these names, that the last session of `kernel` left.

    Raises:
        ChexError: a file has a name that leads out of `folder`, or did not arrive complete.
    """
    from requests import RequestException

    try:
        for name, url in retried(lambda: _listing(api, kernel), what=f"files of {kernel}", attempts=4):
            if name not in names and not name.startswith(tuple(one for one in names if one.endswith("/"))):
                continue
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                raise ChexError(f"the output of {kernel} has a file {name!r}, which is outside its folder")
            retried(partial(_fetch, url, folder / path), what=f"fetching {name}", attempts=4)
    except ValueError as error:
        raise ChexError(f"Kaggle shows no output of {kernel}: {error}") from None
    except RequestException as error:
        raise client.explained(error, f"while sending the output of {kernel}") from error


def _listing(api: Any, kernel: str) -> list[tuple[str, str]]:
    """Names and addresses of the files."""
    from kagglesdk.kernels.types.kernels_api_service import ApiListKernelSessionOutputRequest

    request = ApiListKernelSessionOutputRequest()
    request.user_name, request.kernel_slug = kernel.split("/")
    request.page_size = _PAGE_SIZE
    files: list[tuple[str, str]] = []
    with api.build_kaggle_client() as kaggle:
        while True:
            answer = kaggle.kernels.kernels_api_client.list_kernel_session_output(request)
            files += [(item.file_name, item.url) for item in answer.files or []]
            if not answer.next_page_token:
                return files
            request.page_token = answer.next_page_token


def _fetch(url: str, path: Path) -> None:
    """Download one file atomically. The address is signed: no credentials go there."""
    import requests

    with requests.get(url, stream=True, timeout=60) as response:
        response.raise_for_status()
        with atomic_path(path) as unfinished, unfinished.open("wb") as file:
            written = 0
            for chunk in response.iter_content(_CHUNK):
                written += file.write(chunk)
            expected = response.headers.get("Content-Length")
            if expected is not None and "Content-Encoding" not in response.headers and written != int(expected):
                raise requests.exceptions.ChunkedEncodingError(f"{written} of {expected} bytes received")
