"""Background uploads to a run's branch."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from chexvision.errors import ChexError
from chexvision.runs.branch import RunBranch
from chexvision.runs.run_progress import PROGRESS_FILE, RunProgress
from chexvision.runs.uploader import Uploader

PROGRESS = RunProgress(run_id="r", status="training", session=1, updated_at="2026-01-01T00:00:00+00:00")


class Branch(RunBranch):
    """A branch that records uploads, fails the first `failures` times, and waits for `gate` each time."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__("chex/model", "r")
        self.arrived: list[dict[str, bytes]] = []
        self.failures = failures
        self.freed = 0
        self.gate = threading.Semaphore(0)
        self.asked = threading.Semaphore(0)

    def send(self, files: Mapping[str, Path | bytes], message: str, without: object = ()) -> str:
        self.asked.release()
        assert self.gate.acquire(timeout=300)
        if self.failures:
            self.failures -= 1
            raise ChexError("the Hub failed")
        read = {name: what.read_bytes() if isinstance(what, Path) else what for name, what in files.items()}
        self.arrived.append({name: content for name, content in read.items() if name != PROGRESS_FILE})
        return "0" * 40

    def free_storage(self) -> None:
        self.freed += 1


def put(uploader: Uploader, work: Path, **files: bytes) -> None:
    paths = {}
    for name, content in files.items():
        paths[name] = work / name
        paths[name].unlink(missing_ok=True)  # replaced by a new file, like the real ones
        paths[name].write_bytes(content)
    uploader.enqueue(PROGRESS, paths, "files")


def links(work: Path) -> list[str]:
    return sorted(path.name for folder in work.glob(".sending-*") for path in folder.iterdir())


def test_superseded_uploads_are_skipped_and_each_upload_is_a_snapshot(tmp_path: Path) -> None:
    branch = Branch()
    uploader = Uploader(branch, tmp_path)
    put(uploader, tmp_path, state=b"1")
    assert branch.asked.acquire(timeout=300)  # the first one is being sent
    put(uploader, tmp_path, state=b"2", best=b"2")
    put(uploader, tmp_path, state=b"3")
    branch.gate.release(9)
    uploader.close()
    assert branch.arrived == [{"state": b"1"}, {"state": b"3", "best": b"2"}]
    assert links(tmp_path) == []


def test_failed_upload_is_retried_with_the_next_one_without_old_copies(tmp_path: Path) -> None:
    branch = Branch(failures=3)
    uploader = Uploader(branch, tmp_path)
    put(uploader, tmp_path, shard=b"one", ledger=b"1")
    for number in (2, 3, 4):
        assert branch.asked.acquire(timeout=300)
        put(uploader, tmp_path, ledger=b"%d" % number)
        branch.gate.release()
    assert branch.asked.acquire(timeout=300)
    assert len(links(tmp_path)) == 2  # one of each name
    branch.gate.release()
    uploader.close()
    assert branch.arrived == [{"shard": b"one", "ledger": b"4"}]


def test_links_of_a_killed_session_are_removed(tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / ".sending-old").mkdir(parents=True)
    (work / ".sending-old" / "1-state.pt").write_bytes(b"x")
    uploader = Uploader(Branch(), work)
    assert not (work / ".sending-old").exists()
    uploader.close(drop=True)
    assert list(work.iterdir()) == []
