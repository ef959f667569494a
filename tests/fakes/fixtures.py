"""Pytest fixtures of the fake servers, each with its client in this process connected to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from chexvision import retry

from .faults import Fault
from .hub import FakeHub
from .kaggle import FakeKaggle

HUB_TOKEN = "hf_right"
# Transient faults: a repeated request succeeds.
FAULTS = {
    "503": Fault.status(503),
    "429": Fault.status(429, retry_after=2),
    "disconnect in the request": Fault.disconnect(3, during="request"),
    "disconnect in the response": Fault.disconnect(3),
    "response lost": Fault.lose_response(),
}
H = TypeVar("H", bound=FakeHub)


@contextmanager
def hub_here(root: Path, kind: type[H]) -> Iterator[H]:
    """A fake Hub that this process's client connects to; a test may use several in turn."""
    with pytest.MonkeyPatch.context() as patch, kind(root, HUB_TOKEN) as hub:
        hub.environment(patch, HUB_TOKEN)
        yield hub


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replaces sleeping; returns the seconds that retries would have waited."""
    seen: list[float] = []
    monkeypatch.setattr(retry, "sleep", seen.append)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client's own backoff
    return seen


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub of user "chex" whose token is in `HF_TOKEN`."""
    with FakeHub(tmp_path / "fake-hub", HUB_TOKEN) as hub:
        hub.environment(monkeypatch, HUB_TOKEN)
        yield hub


@pytest.fixture
def fake_kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKaggle]:
    """A Kaggle of user "chex" whose token is in `KAGGLE_API_TOKEN`."""
    with FakeKaggle(tmp_path / "fake-kaggle") as kaggle:
        kaggle.environment(monkeypatch)
        yield kaggle
