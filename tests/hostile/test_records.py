"""Run records that a user or a full disk has damaged, in `runs`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from chexvision.errors import ChexError, UsageError
from chexvision_dispatch import run_records as records
from tests.dispatch.standin import RECORD
from tests.hostile.conftest import Refuses

RUN = "densenet-20260102-0900-3f9c"


def with_fields(**fields: Any) -> Callable[[Path], object]:
    return lambda path: path.write_text(json.dumps(asdict(replace(RECORD, run_id=RUN)) | fields))


def truncate(path: Path) -> None:
    with_fields()(path)
    path.write_bytes(path.read_bytes()[:200])


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no bytes": (lambda path: path.write_bytes(b""), "is damaged"),
    "not JSON": (lambda path: path.write_bytes(b"\x00\x01\xff"), "is damaged"),
    "truncated": (truncate, "is damaged"),
    "a list": (lambda path: path.write_text("[]"), "is damaged"),
    "deep": (lambda path: path.write_text("[" * 100_000), "is damaged"),
    "missing fields": (lambda path: path.write_text('{"run_id": "x"}'), "is damaged"),
    "wrong types": (with_fields(sessions="none"), "is damaged: sessions"),
    "options of objects": (with_fields(options={"run_dir": {"a": 1}}), "is damaged: options.run_dir"),
    "later format": (with_fields(format=2, chunks=[]), "has format 2, this version reads 1; update chexvision"),
    "path for an id": (with_fields(run_id="../x"), "is damaged: run_id '../x' is not the file's name"),
    "absolute path for an id": (with_fields(run_id="/etc/x"), "is not the file's name"),
    "id of another run": (with_fields(run_id=RECORD.run_id), "is not the file's name"),
    "escape sequences": (with_fields(run_id="\x1b[2J"), "is not the file's name"),
    "a folder": (Path.mkdir, "a folder, not a regular file"),
    "a FIFO": (os.mkfifo, "a FIFO, not a regular file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "a device, not a regular file"),
    "a link to itself": (lambda path: path.symlink_to(path), "symbolic links"),
}
# Records that can be read, of runs whose state cannot be polled.
STRANGE: dict[str, dict[str, Any]] = {
    "unknown target": {"target": "../x"},
    "unknown kernel": {"kernel": "../x"},
    "options of another version": {"options": {"color": "red"}},
    "no options": {"options": {}},
    "NUL in a folder": {"options": {"run_dir": "a\0b"}},
    "a number for a folder": {"options": {"run_dir": 3.5}},
    "a destination that is none": {"to": "a b/c d@@", "options": {"run_dir": "/nowhere"}},
    "numbers for Kaggle": {"target": "kaggle", "options": {"timeout_hours": "x", "accelerator": 5}},
    "a session of no number": {
        "options": {"run_dir": "/nowhere"}, "sessions": [{"started_at": "then", "handle": "../x", "outcome": "odd"}],
    },
}  # fmt: skip


@pytest.fixture
def runs(here: Path) -> Path:
    """The folder of the records; one of them is valid."""
    return records.save(RECORD).parent


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_record_is_a_one_line_error_and_the_others_are_listed(
    name: str, runs: Path, refuses: Refuses, capfd: pytest.CaptureFixture[str]
) -> None:
    make, message = DAMAGED[name]
    make(runs / f"{RUN}.json")
    for words in (["runs", "list"], ["runs", "list", "--json"], ["runs", "status", RUN]):
        line = refuses(*words, codes=(1,))
        assert message in line and f"{RUN}.json" in line
    assert [record.run_id for record in records.every(lambda error: None)] == [RECORD.run_id]


@pytest.mark.parametrize("name", STRANGE)
def test_a_run_that_cannot_be_polled_is_listed_as_unknown(
    name: str, runs: Path, capfd: pytest.CaptureFixture[str], refuses: Refuses
) -> None:
    from chexvision.cli import main

    fields = {"sessions": [{"started_at": "2026-01-01T00:00:00+00:00", "handle": "1"}], **STRANGE[name]}
    with_fields(**fields)(runs / f"{RUN}.json")
    with pytest.raises(SystemExit) as ended:
        main(["runs", "list"])
    said = capfd.readouterr()
    assert ended.value.code == 0
    assert {line.split()[0] for line in said.out.splitlines()} == {RUN, RECORD.run_id}


def test_the_last_run_is_unknown_if_a_record_is_damaged(runs: Path) -> None:
    (runs / f"{RUN}.json").write_text("{")
    with pytest.raises(UsageError, match=f"name the run, or delete what cannot be read: .*{RUN}"):
        records.find(None)
    assert records.find(RECORD.run_id) == RECORD


def test_a_path_is_not_a_run_id(runs: Path, refuses: Refuses) -> None:
    (runs.parent / "x.json").write_text("{}")
    assert "no run begins with '../x'" in refuses("runs", "status", "../x", codes=(2,))


def test_a_hostile_run_id_is_never_used_as_a_path(runs: Path) -> None:
    with_fields(run_id="../x")(runs / f"{RUN}.json")
    with pytest.raises(ChexError, match="is not the file's name"):
        records.update(RUN, lambda record: record)
    assert not (runs.parent / "x.json").exists()
