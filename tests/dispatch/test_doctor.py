"""`chexvision doctor` without write access: it finishes and reports which variable to set."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_DROP_CAPABILITY = 24  # of prctl
_IGNORES_PERMISSIONS = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


def _obey_permissions() -> None:
    """So that a read-only folder is read-only for root, too."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        for capability in _IGNORES_PERMISSIONS:
            libc.prctl(_DROP_CAPABILITY, capability, 0, 0, 0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")
@pytest.mark.parametrize("kind", ["read only", "closed", "a file"])
def test_doctor_finishes_with_a_read_only_home(kind: str, tmp_path: Path) -> None:
    home = tmp_path / "not-a-home"
    if kind == "a file":
        home.write_text("")
    else:
        home.mkdir(mode=0o555 if kind == "read only" else 0o000)
    hidden = ("HF_", "CHEXVISION_", "XDG_", "KAGGLE_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    env |= {"HOME": str(home), "HF_ENDPOINT": "http://127.0.0.1:9"}
    # Importing torch takes seconds and is not tested here.
    start = "import sys; sys.modules['torch'] = None; from chexvision.cli import main; main(['doctor', '--json'])"
    done = subprocess.run(
        [sys.executable, "-c", start],
        capture_output=True,
        text=True,
        env=env,
        timeout=300,
        check=False,
        preexec_fn=_obey_permissions,
    )
    home.chmod(0o700)
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    found = {one["name"]: one for one in json.loads(done.stdout)}
    assert not found["records"]["ok"]
    assert "set CHEXVISION_STATE to a folder that can" in found["records"]["note"]
    assert "set KAGGLE_CONFIG_DIR to one that can be written to" in found["Kaggle"]["note"]
    assert found["bundle"]["ok"]
