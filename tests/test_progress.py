from __future__ import annotations

import io
import time

import pytest

from chexvision.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which advances only when a test sets it."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_every_thirty_seconds(clock: list[float]) -> None:
    stream = io.StringIO()
    with Progress("decoding train", 1000, "images", stream=stream) as progress:
        for _ in range(100):
            clock[0] += 1
            progress.advance(10)
    assert stream.getvalue().splitlines() == [
        "decoding train 300/1,000 · 10 images/s · 1m10s left",
        "decoding train 600/1,000 · 10 images/s · 40s left",
        "decoding train 900/1,000 · 10 images/s · 10s left",
    ]


def test_earlier_items_count_but_not_in_the_rate(clock: list[float]) -> None:
    stream = io.StringIO()
    with Progress("epoch 2/9", 1000, "images", done=900, stream=stream) as progress:
        clock[0] += 30
        progress.note = "loss 0.5"
        progress.advance(60)
    assert stream.getvalue() == "epoch 2/9 960/1,000 · 2 images/s · 20s left · loss 0.5\n"


def test_a_note_is_computed_at_most_twice_per_second(clock: list[float]) -> None:
    """Computing it may synchronize with the device, so it is computed only when shown."""
    asked = 0
    with Progress("epoch 1/9", 1000, "images", stream=Terminal()) as progress:
        for _ in range(100):
            clock[0] += 0.125
            asked += progress.due
            progress.advance(1)
    assert asked == 25


@pytest.mark.parametrize(("seconds", "text"), [(12.4, "12s"), (185, "3m05s"), (7800, "2h10m")])
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert duration(seconds) == text
