"""An interrupted build continues after its finished shards and gives the bytes of an uninterrupted one."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chexvision.errors import ChexError, UsageError
from chexvision.files.stamps import read_as_listed
from chexvision.images import sources
from chexvision.images.reading import Radiograph, read_radiograph
from chexvision.runs.build_session import BuildProgress, build_and_push
from chexvision.runs.run_progress import read_progress
from chexvision.runs.session import Session
from chexvision.shards import build
from chexvision.shards.build import BuildOptions, Stopped, build_shards
from chexvision.shards.planned import make
from chexvision.shards.planned.ledger import FINISHED, Ledger
from tests.shards.conftest import Release, options, png, tree

SMALL = 45_000  # bytes of a shard: two images plus the overhead of a Parquet file


class Watch:
    """A session that ends the build after so many finished shards, or after so many images."""

    def __init__(self, stop_after: int = 10**9, *, images: int = 10**9) -> None:
        self.shards = 0
        self.before: int | None = None
        self._stop_after = stop_after
        self._images = images

    def should_stop(self) -> bool:
        self._images -= 1
        return self.shards >= self._stop_after or self._images < 0

    def begins(self, images: int, ledger: Ledger) -> None:
        self.before = ledger.rows

    def finished(self, ledger: Ledger) -> None:
        self.shards += 1


def records(partial: Path) -> list[dict[str, Any]]:
    """The finished shards of an unfinished build."""
    return [json.loads(path.read_text()) for path in sorted((partial / FINISHED).glob("*.json"))]


@pytest.fixture
def uninterrupted(release: Release, tmp_path: Path) -> dict[str, bytes]:
    release.put(release.names[5], b"not an image")
    out = tmp_path / "uninterrupted"
    build_shards([release.root], release.metadata, out, options(shard_bytes=SMALL, max_bad=0.5))
    return tree(out)


def resume_build(release: Release, out: Path, watch: Watch) -> Watch:
    build_shards([release.root], release.metadata, out, options(shard_bytes=SMALL, max_bad=0.5), watch)
    return watch


@pytest.mark.parametrize("stop_after", [1, 3, 6])
def test_stopped_build_continues_and_gives_the_same_bytes(
    release: Release,
    uninterrupted: dict[str, bytes],
    tmp_path: Path,
    stop_after: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "shards"
    with pytest.raises(Stopped):
        resume_build(release, out, Watch(stop_after))
    assert not out.exists()
    kept = records(tmp_path / "shards.partial")
    assert len(kept) == stop_after
    decoded: list[bytes] = []

    def counted(data: bytes, *, any_view: bool = False) -> Radiograph:
        decoded.append(data)
        return read_radiograph(data, any_view=any_view)

    monkeypatch.setattr(make, "read_radiograph", counted)
    watch = resume_build(release, out, Watch())
    assert watch.before == sum(one["shard"]["rows"] for one in kept) > 0
    assert len(decoded) < len(release.names)  # images of finished shards are not read again
    assert tree(out) == uninterrupted
    assert not (tmp_path / "shards.partial").exists()


def test_one_session_per_shard_gives_the_same_bytes(
    release: Release, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "shards"
    while not out.exists():
        try:
            resume_build(release, out, Watch(1))
        except Stopped:
            continue
    assert tree(out) == uninterrupted


def test_session_without_a_finished_shard_keeps_earlier_shards(
    release: Release, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "shards"
    with pytest.raises(Stopped):
        resume_build(release, out, Watch(4))
    for images in (0, 1):
        with pytest.raises(Stopped):
            resume_build(release, out, Watch(images=images))
    watch = resume_build(release, out, Watch())
    assert watch.before is not None and watch.before > 0
    assert tree(out) == uninterrupted


def test_build_that_fails_at_its_end_keeps_all_shards(
    release: Release, uninterrupted: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "shards"
    with monkeypatch.context() as patch, pytest.raises(ChexError, match="is full"):
        patch.setattr(build, "write_manifest", full)
        resume_build(release, out, Watch())
    watch = resume_build(release, out, Watch())
    assert watch.before == 39
    assert tree(out) == uninterrupted


def test_image_that_could_not_be_read_is_read_by_the_next_call(
    release: Release, uninterrupted: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = release.names[0]

    def denied(path: Path, at_most: int, stamp: str) -> bytes:
        if path.name == hidden:
            raise PermissionError(errno.EACCES, "Permission denied")
        return read_as_listed(path, at_most, stamp)

    out = tmp_path / "shards"
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(sources, "read_as_listed", denied)
        resume_build(release, out, Watch(4))
    bad = [image for one in records(tmp_path / "shards.partial") for image in one["bad"]]
    assert {"name": hidden, "reason": "cannot be read: Permission denied"} in bad
    resume_build(release, out, Watch())
    assert tree(out) == uninterrupted


@pytest.mark.parametrize("damage", ["altered", "missing", "ledger", "stray"])
def test_modified_shard_is_rebuilt(
    release: Release, uninterrupted: dict[str, bytes], tmp_path: Path, damage: str
) -> None:
    out, partial = tmp_path / "shards", tmp_path / "shards.partial"
    with pytest.raises(Stopped):
        resume_build(release, out, Watch(4))
    first = sorted((partial / "data").glob("train-*"))[0]
    if damage == "altered":
        first.write_bytes(first.read_bytes()[:-1] + b"x")
    elif damage == "missing":
        first.unlink()
    elif damage == "ledger":
        for record in (partial / FINISHED).iterdir():
            record.write_text("{")
    else:
        (partial / "data" / "stray.parquet").write_bytes(b"x")
    resume_build(release, out, Watch())
    assert tree(out) == uninterrupted


def test_shards_built_with_other_options_are_not_reused(release: Release, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    with pytest.raises(Stopped):
        resume_build(release, out, Watch(2))
    other = options(shard_bytes=SMALL, max_bad=0.5, size=40)
    watch = Watch()
    build_shards([release.root], release.metadata, out, other, watch)
    build_shards([release.root], release.metadata, tmp_path / "other", other)
    assert watch.before == 0
    assert tree(out) == tree(tmp_path / "other")


def test_records_of_files_outside_the_folder_are_ignored(release: Release, tmp_path: Path) -> None:
    out, partial = tmp_path / "shards", tmp_path / "shards.partial"
    with pytest.raises(Stopped):
        resume_build(release, out, Watch(2))
    outside = tmp_path / "outside.parquet"
    record = sorted((partial / FINISHED).glob("train-*"))[0]
    shard = f"data/{record.stem}.parquet"
    outside.write_bytes((partial / shard).read_bytes())
    record.write_text(record.read_text().replace(shard, "../outside.parquet"))
    resume_build(release, out, Watch())
    assert outside.is_file()


def test_killed_process_keeps_its_finished_shards(
    release: Release, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    work = tmp_path / "work"
    words = ["shards", "build", "--images", str(release.root), "--metadata", str(release.metadata)]
    words += ["--work", str(work), "--size", "32", "--shard-size", str(SMALL), "--max-bad", "0.5"]
    killed = subprocess.run([sys.executable, "-m", "tests.shards.killed_build", "5", *words], check=False)
    assert killed.returncode == -signal.SIGKILL
    kept = records(work / "shards.partial")
    assert len(kept) == 5
    done = sum(entry["shard"]["rows"] for entry in kept)
    command = [sys.executable, "-m", "chexvision", *words]
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert f"continuing after {done} of 40 images in finished shards" in again.stdout
    assert tree(work / "shards") == uninterrupted
    reported = json.loads((work / "progress.json").read_text())
    assert (reported["status"], reported["session"], reported["images_done"]) == ("complete", 2, 39)


def test_time_budget_pauses_with_finished_shards(
    release: Release, tmp_path: Path, uninterrupted: dict[str, bytes]
) -> None:
    chosen = options(shard_bytes=SMALL, max_bad=0.5)
    progress = BuildProgress(tmp_path, "shards-1", max_hours=1e-9)
    with progress.session as session:
        assert build_and_push([release.root], release.metadata, chosen, progress) == (None, None)
    assert session.progress.status == "paused"
    assert "time budget" in session.progress.note
    built(release, tmp_path, chosen)
    assert tree(tmp_path / "shards") == uninterrupted


def built(release: Release, work: Path, chosen: BuildOptions) -> Session:
    progress = BuildProgress(work, "shards-1")
    with progress.session as session:
        build_and_push([release.root], release.metadata, chosen, progress)
    return session


def test_finished_data_set_is_not_rebuilt_or_mistaken_for_another(release: Release, tmp_path: Path) -> None:
    chosen = options(shard_bytes=SMALL)
    sessions = [built(release, tmp_path, chosen) for _ in range(2)]
    assert sessions[1].progress.session == 2
    release.put(release.names[0], png(1000))
    with pytest.raises(UsageError, match="contains shards of images that have changed since"):
        built(release, tmp_path, chosen)
    release.metadata.write_text(release.metadata.read_text().replace("Hernia", "Mass"))
    for other in (options(size=40), chosen):  # another size, other labels
        with pytest.raises(UsageError, match="contains shards of other images or options"):
            built(release, tmp_path, other)


def test_failed_build_keeps_finished_shards_and_reports_the_reason(release: Release, tmp_path: Path) -> None:
    release.put(release.names[38], b"not an image")
    with pytest.raises(ChexError, match="1 of 40 images are bad"):
        built(release, tmp_path, options(shard_bytes=SMALL))
    reported = read_progress(tmp_path)
    assert reported is not None
    assert reported.status == "failed"
    assert reported.images_done > 0
    assert any(path.startswith(f"shards.partial/{FINISHED}/") for path in reported.state)
