"""Pytest fixtures of the fake servers, each with its client in this process sent to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from chexvision.hub import retry

from .faults import Fault
from .hub import FakeHub
from .kaggle import FakeKaggle

HUB_TOKEN = "hf_right"
# What passes when the same is asked again.
FAULTS = {
    "503": Fault.status(503),
    "429": Fault.status(429, retry_after=2),
    "cut in the request": Fault.cut(3, during="request"),
    "cut in the response": Fault.cut(3),
    "answer lost": Fault.lose_answer(),
}
H = TypeVar("H", bound=FakeHub)


@contextmanager
def hub_here(root: Path, kind: type[H]) -> Iterator[H]:
    """A Hub that this process's client talks to; one after the other in a test, where a fixture is one for all."""
    with pytest.MonkeyPatch.context() as patch, kind(root, HUB_TOKEN) as hub:
        hub.environment(patch, HUB_TOKEN)
        yield hub


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nothing is waited for; the seconds that our retries would have waited."""
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
