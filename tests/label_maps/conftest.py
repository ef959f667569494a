"""Fixtures of one's own labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.label_maps.own_set import Set


@pytest.fixture
def own(tmp_path: Path) -> Set:
    return Set(tmp_path)
