"""`chexvision train` refuses what it can see is wrong before it loads or writes anything."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from chexvision.cli import main


@pytest.mark.parametrize(
    ("data", "message"),
    [("chex/xrays@main", "is not pinned: name its 40-digit commit sha"), ("./nowhere", "nowhere")],
)
def test_data_that_names_no_shards_leaves_nothing_behind(
    data: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "chexvision.training.session", None)  # it does not come so far
    with pytest.raises(SystemExit) as ended:
        main(["train", "--model", "densenet", "--data", data])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
