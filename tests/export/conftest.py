"""An exported model for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def model(exported_model: Path) -> Path:
    """A convolutional model, exported. Read only."""
    return exported_model
