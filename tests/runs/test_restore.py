"""Which of several states a session resumes."""

from __future__ import annotations

from pathlib import Path

from chexvision.runs.branch import RunBranch
from chexvision.runs.restore import restore
from chexvision.runs.run_progress import PROGRESS_FILE, RunProgress
from tests.fakes.hub import FakeHub


def progress(epoch: int, saved_epoch: int | None = None) -> bytes:
    reported = RunProgress(
        run_id="r", status="paused", session=1, updated_at="2026-01-01", epoch=epoch, saved_epoch=saved_epoch,
        state=("state.pt",),
    )  # fmt: skip
    return reported.to_json().encode()


def restored(tmp_path: Path, fake_hub: FakeHub, branch_progress: bytes) -> bytes:
    """The restored state if an attached output has 6 epochs and the branch has `progress`."""
    work, attached = tmp_path / "work", tmp_path / "input" / "session-1"
    work.mkdir()
    attached.mkdir(parents=True)
    (attached / "state.pt").write_bytes(b"attached")
    (attached / PROGRESS_FILE).write_bytes(progress(6))
    branch = RunBranch("chex/model", "r")
    branch.send({"state.pt": b"of the branch", PROGRESS_FILE: branch_progress}, "Epoch")
    restore("r", work, tmp_path / "input", tmp_path, branch)
    return (work / "state.pt").read_bytes()


def test_branch_is_ranked_by_its_state_and_not_by_its_progress(tmp_path: Path, fake_hub: FakeHub) -> None:
    assert restored(tmp_path, fake_hub, progress(8, saved_epoch=5)) == b"attached"


def test_branch_with_the_latest_state_is_resumed(tmp_path: Path, fake_hub: FakeHub) -> None:
    assert restored(tmp_path, fake_hub, progress(8, saved_epoch=7)) == b"of the branch"
