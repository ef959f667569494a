"""Which run trains which variant of a study: one small file, by which an interrupted study continues."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from chexvision.errors import ChexError
from chexvision.files.atomic import write_text_atomic
from chexvision.files.json_files import read_record
from chexvision_dispatch import run_records as records
from chexvision_dispatch.run_records import RunRecord

FORMAT = 1


class StudyState(BaseModel):
    """The file of a study.

    Args:
        format: of the file.
        data: the commit or absolute path of each dataset, by what was asked for: all runs train on the same one.
        runs: the id of each run by `StudyRun.key`, from before the run is sent.
        replaced: ids of failed runs that others took the place of.
        ensemble: where the ensemble of the runs was published, once it was.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    data: dict[str, str] = Field(default_factory=dict)
    runs: dict[str, str] = Field(default_factory=dict)
    replaced: tuple[str, ...] = ()
    ensemble: str | None = None


class _Head(BaseModel):
    model_config = ConfigDict(extra="ignore")

    format: int


class StateFile:
    """The state of one study on this machine, written whenever it changes.

    Args:
        path: of the file, which need not exist.

    Raises:
        ChexError: it cannot be read, or is of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = _read(path)

    def change(self, **changes: Any) -> None:
        """Replace fields of `StudyState`, atomically."""
        self.state = self.state.model_copy(update=changes)
        write_text_atomic(self.path, self.state.model_dump_json(indent=2) + "\n")

    def plan(self, key: str, run_id: str) -> None:
        """Keep the id of the run that is sent next."""
        self.change(runs=self.state.runs | {key: run_id})

    def replace(self, key: str) -> None:
        """Have a run that failed replaced by a new one."""
        others = {other: run_id for other, run_id in self.state.runs.items() if other != key}
        self.change(runs=others, replaced=(*self.state.replaced, self.state.runs[key]))

    def record(self, key: str) -> RunRecord | None:
        """The run of a key, if it was sent.

        Raises:
            ChexError: its record cannot be read.
        """
        run_id = self.state.runs.get(key)
        sent = run_id is not None and (records.runs_dir() / f"{run_id}.json").exists()
        return records.load(run_id) if run_id is not None and sent else None


def state_path(name: str) -> Path:
    """The file of the study `name`, below the folder of run records."""
    return records.runs_dir() / "studies" / f"{name}.json"


@contextmanager
def open_state(name: str) -> Iterator[StateFile]:
    """The state of the study `name`, which no other command may change meanwhile.

    Raises:
        ChexError: another command runs the study, or the file cannot be read.
    """
    from filelock import FileLock, Timeout

    path = state_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_suffix(".lock"), timeout=0):
            yield StateFile(path)
    except Timeout:
        raise ChexError(f"another command runs the study {name}; wait for it, or end it") from None


def _read(path: Path) -> StudyState:
    if not path.exists():
        return StudyState()
    found = read_record(path, _Head).format
    if found != FORMAT:  # first: another format may have other fields
        raise ChexError(
            f"the study's state {path} has format {found}, this version reads {FORMAT}; update chexvision"
        )
    return read_record(path, StudyState)
