"""An exported model for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from chexvision.export.export_model import export_model
from tests.explain import trained
from tests.export.published_models import PLATT, published


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolutional model, exported. Read only."""
    folder = published(tmp_path_factory.mktemp("exported") / "model", "small", trained.SIDE, PLATT)
    export_model(folder, folder)
    return folder
