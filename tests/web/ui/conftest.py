"""Pages with small models whose findings lie above, near and below their thresholds."""

from __future__ import annotations

from pathlib import Path

import pytest

from chexvision.layout import PACKAGE_DIR
from tests.web.conftest import ServeApp, lacking
from tests.web.ui.finding_model import write_finding_model

AXE = PACKAGE_DIR.parent.parent / "app" / "web" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="session")
def axe() -> Path:
    """The script of axe-core, which finds what keeps people from using a page."""
    if not AXE.is_file():
        lacking(f"no {AXE.name}; install it with: make app")
    return AXE


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `write_finding_model`. Read only."""
    return write_finding_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose Cardiomegaly is below and whose Effusion is above the threshold, with coarser maps. Read only."""
    typical = (0.5, 0.02, 0.5, 0.02, 0.07, 0.3, 0.7)
    return write_finding_model(tmp_path_factory.mktemp("models") / "other", typical, grid=4)


@pytest.fixture(scope="session")
def url(model: Path, serve_app: ServeApp) -> str:
    """The address of the page with `model`."""
    return serve_app(model)


@pytest.fixture(scope="session")
def url_of_two(model: Path, other_model: Path, serve_app: ServeApp) -> str:
    """The address of the page with `model` and `other_model`."""
    return serve_app(model, other_model)
