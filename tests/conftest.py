"""Fixtures of all packages."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no failure, and each run of the suite tests the same examples.
settings.register_profile("suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")
# Tests run in parallel, one per core: more threads would only compete.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Every run that a test starts would export its model; tests/export does.
os.environ["CHEXVISION_NO_EXPORT"] = "1"
# Ray reads these once in a process, and tests of several folders start clusters in one.
os.environ |= {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else 127.0.0.1 becomes the machine's own address
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0123456789abcdef0123456789abcdef",
}
os.environ.pop("RAY_ADDRESS", None)
# The processes that tests start compile the source once for all of them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# A shell that runs a command in the background has it ignore SIGINT, and so would every process that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

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
    """Caches and run records of other tests and of the user are hidden from each test."""
    folder = tmp_path_factory.mktemp("caches")
    monkeypatch.setenv("CHEXVISION_CACHE", str(folder / "cache"))
    monkeypatch.setenv("CHEXVISION_STATE", str(folder / "state"))


@pytest.fixture(scope="session")
def exported_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published model and its exported file, which takes 10 s of a processor to write. Read only."""
    from tests.export.published_models import write_exported

    return write_exported(tmp_path_factory.mktemp("exported") / "model")


@pytest.fixture(scope="session")
def synthetic_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of shards with 160 small synthetic images. Read only."""
    from chexvision.synthetic.synthesize import synthesize

    folder = tmp_path_factory.mktemp("synthetic") / "shards"
    synthesize(folder, images=160, seed=3, size=64, encoding="png", shard_bytes=2**28, workers=2, overwrite=False)
    return folder
