"""Pytest fixtures of the fake servers, each with its client in this process sent to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .hub import FakeHub
from .kaggle import FakeKaggle

HUB_TOKEN = "hf_right"


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
