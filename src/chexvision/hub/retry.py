"""The one place that decides which failures of a remote call are transient, and how long to wait before a retry."""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

T = TypeVar("T")

FIRST_WAIT = 1.0  # seconds; each further one is twice as long
LONGEST_WAIT = 60.0
LONGEST_ASKED = 15 * 60.0  # no retry where a server asks for more: the Hub's limits are per 5 minutes

sleep: Callable[[float], None] = time.sleep
clock: Callable[[], float] = time.monotonic
jitter = random.Random()

# Each generation of the Hub's client uses another HTTP library, so errors are recognized by name: the bases
# that httpx, requests and urllib3 give to connection failures.
_CONNECTION_ERRORS = {
    "ConnectionError",
    "TimeoutError",
    "TransportError",
    "Timeout",
    "ChunkedEncodingError",
    "ProtocolError",
    "HTTPException",
}
_XET_FAILED = "Data processing error"  # how hf_xet's own RuntimeError about a transfer begins
_OWN_FAULT = {"OfflineModeIsEnabled", "LocalProtocolError", "UnsupportedProtocol", "SSLCertVerificationError"}
_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524}
_QUERY = re.compile(r"(?<=\w)\?[\w.~%-]+=[^\s\"']+")  # of a URL: it may be signed
_RESET = re.compile(r"\bt=(\d+)")


_single_attempt: ContextVar[bool] = ContextVar("single_attempt", default=False)


@contextmanager
def single_attempt() -> Iterator[None]:
    """Within it `retried` calls once and prints nothing: for a caller that has its own retry loop."""
    token = _single_attempt.set(True)
    try:
        yield
    finally:
        _single_attempt.reset(token)


def retried(call: Callable[[], T], *, what: str, attempts: int = 6) -> T:
    """Call until it succeeds, waiting longer each time, as long as its failures are transient.

    Args:
        call: something that may be called again after it failed halfway.
        what: what it does, for the line on stderr before each wait, such as "publishing to USER/REPO".
        attempts: how often to call at most.

    Raises:
        Exception: what the last call raised, or the first failure that is not transient.
    """
    for attempt in range(1, 1 if _single_attempt.get() else attempts):
        try:
            return call()
        except Exception as error:
            wait = _wait_after(error, attempt)
            if wait is None:
                raise
            print(
                f"{what}: {reason(error)}; trying again in {wait:.0f} s ({attempt + 1} of {attempts})",
                file=sys.stderr,
                flush=True,
            )
        sleep(wait)
    return call()


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed later: 429, 5xx, a cut connection, a timeout.

    All causes of the error are inspected, since clients wrap the errors of their HTTP library.
    """
    chain = list(_chain(error))
    if any(type(link).__name__ in _OWN_FAULT for link in chain):
        return False
    status = status_of(error)
    if status is not None:
        return status in _TRANSIENT_STATUS
    return any(_is_connection_error(link) for link in chain)


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error, or what caused it, carries."""
    response = response_of(error)
    return None if response is None else int(response.status_code)


def reason(error: BaseException) -> str:
    """An error as a short text on one line."""
    chain = list(_chain(error))
    status = status_of(error)
    said = next(filter(None, (getattr(link, "server_message", None) for link in chain)), None)
    cause = next((link for link in reversed(chain) if str(link)), error)
    full = _QUERY.sub("", " ".join(str(said or (cause if status is None else error)).split()))
    text = full[:300] or type(error).__name__
    return text if status is None or str(status) in text else f"HTTP {status}: {text}"


def _wait_after(error: Exception, attempt: int) -> float | None:
    """Seconds until the next attempt; None where another one would fail too."""
    if not is_transient(error):
        return None
    asked = asked_wait(error)
    if asked is not None:
        return asked if asked <= LONGEST_ASKED else None
    # Half of it at random: runs that failed together should not retry together.
    longest = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (attempt - 1))
    return longest * (0.5 + jitter.random() / 2)


def asked_wait(error: BaseException) -> float | None:
    """What the server asked to wait, in seconds: ``Retry-After``, or the Hub's ``RateLimit``."""
    response = response_of(error)
    if response is None:
        return None
    after = str(response.headers.get("Retry-After", "")).strip()
    if after.isdecimal():
        return float(after)
    if after:
        try:
            return max(0.0, (parsedate_to_datetime(after) - datetime.now(UTC)).total_seconds())
        except (TypeError, ValueError):
            return None
    reset = _RESET.search(response.headers.get("RateLimit", "")) if response.status_code == 429 else None
    return float(reset[1]) if reset else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def response_of(error: BaseException) -> Any:
    """The HTTP response that an error, or what caused it, has; None where there was none."""
    for link in _chain(error):
        response = getattr(link, "response", None)
        if getattr(response, "status_code", None) is not None:
            return response
    return None


def _is_connection_error(error: BaseException) -> bool:
    if any(base.__name__ in _CONNECTION_ERRORS for base in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and str(error).startswith(_XET_FAILED)
