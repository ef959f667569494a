"""A folder is created completely or not at all, even if the process is killed."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from chexvision.errors import ChexError
from chexvision.files.atomic_folder import atomic_folder, locked


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(out: Path, content: str) -> None:
    with atomic_folder(out) as folder:
        (folder / "file").write_text(content)


def test_a_folder_replaces_the_previous_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    for content in ("first", "second"):
        write(out, content)
        assert (out / "file").read_text() == content
        assert names(tmp_path / "deep") == ["out"]


def test_a_failure_keeps_the_previous_folder(tmp_path: Path) -> None:
    write(tmp_path / "out", "first")
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "out") as folder:
        (folder / "file").write_text("second")
        raise ZeroDivisionError
    assert (tmp_path / "out" / "file").read_text() == "first"
    assert names(tmp_path) == ["out"]


def test_leftovers_of_a_killed_process_are_removed_and_the_replaced_folder_is_restored(tmp_path: Path) -> None:
    for left in (".out.partial", ".out.old"):  # killed between the two renames
        (tmp_path / left).mkdir()
        (tmp_path / left / "file").write_text(left)
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "out") as folder:
        assert names(folder) == []
        raise ZeroDivisionError
    assert (tmp_path / "out" / "file").read_text() == ".out.old"
    assert names(tmp_path) == ["out"]


def test_concurrent_writers_of_one_folder_are_refused(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out"), pytest.raises(ChexError, match="out is being made by another command"):
        write(tmp_path / "out", "second")


def test_a_file_system_without_locks_is_used_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(file: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    write(tmp_path / "out", "content")
    assert (tmp_path / "out" / "file").read_text() == "content"
    assert names(tmp_path) == ["out"]
    assert "has no locks (No locks available): run one command at a time there" in caplog.text


def test_a_full_disk_is_explained_if_a_size_estimate_is_given(tmp_path: Path) -> None:
    with pytest.raises(ChexError, match="is full"), atomic_folder(tmp_path / "out", needed_bytes=1):
        raise OSError(errno.ENOSPC, "no space")
    with pytest.raises(OSError, match="no space"), atomic_folder(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "no space")
    with pytest.raises(ChexError, match="GB free and about"), atomic_folder(tmp_path / "out", needed_bytes=10**18):
        pass
    assert names(tmp_path) == []


def test_a_lock_without_a_message_blocks_until_released(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with locked(tmp_path / "lock"):
            order.append("second")

    with locked(tmp_path / "lock"):
        waiting = threading.Thread(target=second)
        waiting.start()
        order.append("first")
    waiting.join(timeout=300)
    assert order == ["first", "second"]
    assert names(tmp_path) == []
