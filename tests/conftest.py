"""Fixtures that all rooms share."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["tests.fakes.fixtures"]

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real radiographs; tests that need it are skipped where it is missing."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real radiographs in {REAL_DATA}")
    return REAL_DATA


@pytest.fixture(autouse=True)
def _own_caches(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds what another, or the user, decoded or dispatched before."""
    folder = tmp_path_factory.mktemp("caches")
    monkeypatch.setenv("CHEXVISION_CACHE", str(folder / "cache"))
    monkeypatch.setenv("CHEXVISION_STATE", str(folder / "state"))
