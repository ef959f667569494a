"""``progress.json``: the progress of a run."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

PROGRESS_FILE = "progress.json"

Status = Literal["starting", "training", "building", "paused", "complete", "failed"]
# Why a session ended before the run was complete: the first three paused it, the others are failures.
StopReason = Literal["time_budget", "stop_requested", "signal", "error", "transient_error", "not_allowed"]
Count = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class EpochPoint(_Record):
    """One point of the curve. `macro_auroc` is null where no finding had both kinds of image."""

    epoch: int  # from 1
    train_loss: float
    validation_loss: float
    macro_auroc: float | None


class RunProgress(_Record):
    """``progress.json``: the progress of a run.

    Args:
        run_id: the run.
        status: "starting" until a session computes, then "training" or, of shards, "building"; "paused" with a
            state to resume from; "complete" once the artifact is complete, published or not.
        session: number of the session that wrote this, from 1.
        epoch: epochs that ended.
        saved_epoch: epochs that the state next to this file has seen, where they are fewer than `epoch`: the branch
            gets a state less often than progress. Null where the state is up to date.
        epochs: epochs of the recipe; null until training begins.
        best_epoch: the best one so far by the recipe's `training.monitor`; null while it is undefined.
        best_macro_auroc: its macro AUROC on validation.
        images: how many the shards being built will hold, before it is known which are bad; null in training.
        images_done: those in finished shards.
        seconds_left: an estimate for what is left to compute; null where nothing was timed yet.
        updated_at: ISO 8601 in UTC.
        note: why the run paused or failed, for people.
        stop_reason: the same as a code; null while the session runs, and where the run is complete.
            "transient_error" is a service that did not answer, "not_allowed" a token that may not write.
        kaggle_session_id: what Kaggle's `CancelKernelSession` ends this session by; null elsewhere.
        points: of the epochs that ended.
        state: the files that a next session resumes from, by their path in the run's folder.
        artifact: sha256 of every file of the complete artifact, by name.
        published: where it is, ``USER/NAME@<sha>`` or a folder; null where it was not published.
    """

    run_id: str
    status: Status
    session: Count
    epoch: Count = 0
    saved_epoch: Count | None = None
    epochs: Count | None = None
    best_epoch: Count | None = None
    best_macro_auroc: float | None = None
    images: Count | None = None
    images_done: Count = 0
    seconds_left: Annotated[float, Field(ge=0)] | None = None
    updated_at: str
    note: str = ""
    stop_reason: StopReason | None = None
    kaggle_session_id: int | None = None
    points: tuple[EpochPoint, ...] = ()
    state: tuple[str, ...] = ()
    artifact: dict[str, str] = {}
    published: str | None = None

    @field_validator("state")
    @classmethod
    def _stays_inside(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ValueError(f"{name!r} is outside the run's folder")
        return names

    @property
    def state_epoch(self) -> int:
        """Epochs that the state has seen: where the next session begins."""
        return self.epoch if self.saved_epoch is None else self.saved_epoch

    def to_json(self) -> str:
        """The text of a ``progress.json``."""
        return self.model_dump_json(indent=2) + "\n"


def read_progress(folder: Path, run_id: str | None = None) -> RunProgress | None:
    """The progress in `folder`; None where there is none, or none of run `run_id` where one is named."""
    try:
        progress = RunProgress.model_validate_json((folder / PROGRESS_FILE).read_bytes())
    except (OSError, ValidationError):
        return None
    return progress if run_id in (None, progress.run_id) else None
