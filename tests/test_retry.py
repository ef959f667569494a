"""Retries: which errors, how many attempts, and the waits between them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chexvision import retry
from chexvision.retry import is_transient, reason, retried, status_of


class Answered(Exception):
    """An error with an HTTP response, as each client has its own."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"answer {status}")
        self.response = SimpleNamespace(
            status_code=status, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )


class TransportError(Exception):
    """Named as the base of httpx's connection errors."""


class ReadError(TransportError):
    pass


class OfflineModeIsEnabled(ConnectionError):
    pass


def caused_by(cause: BaseException) -> Exception:
    try:
        raise RuntimeError("Error while uploading 'model.safetensors'") from cause
    except RuntimeError as error:
        return error


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    seen: list[float] = []
    monkeypatch.setattr(retry, "sleep", seen.append)
    monkeypatch.setattr(retry, "jitter", random.Random(1))
    yield seen


def failing(*errors: Exception) -> tuple[list[int], object]:
    calls: list[int] = []
    left = list(errors)

    def call() -> str:
        calls.append(len(calls))
        if left:
            raise left.pop(0)
        return "done"

    return calls, call


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        *[(Answered(status), True) for status in (408, 429, 500, 502, 503, 504)],
        *[(Answered(status), False) for status in (400, 401, 403, 404, 409, 412, 501)],
        (ReadError("connection closed"), True),
        (ConnectionResetError("reset"), True),
        (TimeoutError("slow"), True),
        (caused_by(Answered(503)), True),
        (caused_by(Answered(403)), False),
        (caused_by(ReadError("closed")), True),
        (OfflineModeIsEnabled("offline"), False),
        (caused_by(OfflineModeIsEnabled("offline")), False),
        (RuntimeError("Data processing error: CAS service error"), True),
        (RuntimeError("anything else"), False),
        (ValueError("wrong"), False),
        (OSError(28, "No space left on device"), False),
    ],
)
def test_only_transient_errors_are_retried(error: Exception, passes: bool) -> None:
    assert is_transient(error) is passes


def test_retries_continue_until_success(waits: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    calls, call = failing(Answered(503), ReadError("connection closed"))
    assert retried(call, what="publishing") == "done"  # type: ignore[arg-type]
    assert len(calls) == 3
    assert len(waits) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("publishing: answer 503; trying again in 1 s (2 of 6)")
    assert said[1].startswith("publishing: connection closed; trying again")


def test_the_last_error_is_raised_after_all_attempts(waits: list[float]) -> None:
    calls, call = failing(*[Answered(503) for _ in range(9)], Answered(500))
    with pytest.raises(Answered, match="503"):
        retried(call, what="publishing", attempts=4)  # type: ignore[arg-type]
    assert len(calls) == 4
    assert len(waits) == 3


def test_permanent_errors_are_raised_at_once(waits: list[float]) -> None:
    calls, call = failing(Answered(403))
    with pytest.raises(Answered, match="403"):
        retried(call, what="publishing")  # type: ignore[arg-type]
    assert (len(calls), waits) == (1, [])


def test_backoff_grows_with_jitter_and_repeats_with_its_seed(waits: list[float]) -> None:
    errors = [Answered(503) for _ in range(9)]
    with pytest.raises(Answered):
        retried(failing(*errors)[1], what="x", attempts=9)  # type: ignore[arg-type]
    for number, wait in enumerate(waits):
        longest = min(retry.LONGEST_WAIT, 2**number)
        assert longest / 2 <= wait <= longest
    first, waits[:] = list(waits), []
    retry.jitter.seed(1)
    with pytest.raises(Answered):
        retried(failing(*errors)[1], what="x", attempts=9)  # type: ignore[arg-type]
    assert waits == first


def test_retry_after_sets_the_wait(waits: list[float]) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    _, call = failing(
        Answered(429, Retry_After="7"), Answered(429, RateLimit='"api";r=0;t=55'), Answered(503, Retry_After=later)
    )
    retried(call, what="x")  # type: ignore[arg-type]
    assert waits[:2] == [7, 55]
    assert 90 < waits[2] <= 100


def test_an_excessive_retry_after_is_not_waited_for(waits: list[float]) -> None:
    calls, call = failing(Answered(429, Retry_After="3600"))
    with pytest.raises(Answered):
        retried(call, what="x")  # type: ignore[arg-type]
    assert (len(calls), waits) == (1, [])


@given(st.text(max_size=30))
def test_malformed_headers_do_not_break_the_wait(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retry, "sleep", lambda seconds: None)
        _, call = failing(Answered(503, Retry_After=text))
        try:
            retried(call, what="x")  # type: ignore[arg-type]
        except Answered:
            assert text.strip().isdecimal()  # an hour or more


def test_status_and_reason_are_read_from_the_cause() -> None:
    error = caused_by(Answered(503))
    assert status_of(error) == 503
    assert reason(error) == "HTTP 503: Error while uploading 'model.safetensors'"
    assert reason(caused_by(ReadError("connection\nclosed"))) == "connection closed"
    assert reason(ValueError()) == "ValueError"
