"""The progress of a training session: its position is epochs, its state the files that the loop saves."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chexvision.config.recipe import Recipe
from chexvision.files.atomic import sha256_of
from chexvision.hub.reference import Reference
from chexvision.provenance import Provenance
from chexvision.runs.branch import RunBranch
from chexvision.runs.run_progress import EpochPoint, RunProgress
from chexvision.runs.session import Session
from chexvision.training.history import best_epoch

if TYPE_CHECKING:
    from chexvision.config.recipe import Monitor
    from chexvision.training.history import History

STATE_FILE = "state.pt"
TEACHER_FILE = "teacher.npz"  # of distillation alone
BEST_FILE = "best.safetensors"  # may be missing: before the first epoch ends there are no best weights
# Between uploads of the state: each is some 100 MB, and a killed session loses no more than this.
UPLOAD_SECONDS = 30 * 60.0
SAVE_MINUTES = 30.0  # between savings of the state within an epoch: what a machine that is lost costs at most


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """What a command asked for; each process of a run gets the same.

    Args:
        recipe: what to compute.
        data: a folder of shards, or a Hub dataset pinned to a sha; None for what the recipe names.
        work: folder of the run's state, history and artifact.
        provenance: which run it is; where `work` has begun another and nothing was dispatched, that one.
        dispatched: whether `provenance` was written by dispatch.
        to: where to publish, if anywhere.
        private: whether a repository that has to be created is seen by its owner alone.
        export: whether the artifact contains the model as ONNX, too.
        max_hours: after which the run is saved and ends early; None for no limit.
        save_minutes: between savings of the state within an epoch.
    """

    recipe: Recipe
    data: Reference | None
    work: Path
    provenance: Provenance
    dispatched: bool = False
    to: Reference | None = None
    private: bool = False
    export: bool = False
    max_hours: float | None = None
    save_minutes: float = SAVE_MINUTES


class TrainingProgress:
    """Reports training to its `session`; see `Session` for the arguments.

    It is the session's `ResumableWork`: the state is what the loop saves in the folder.
    """

    def __init__(
        self, folder: Path, run_id: str, *, max_hours: float | None = None, branch: RunBranch | None = None
    ) -> None:
        self._folder = folder
        self._seconds: list[float] = []
        self.session = Session(folder, run_id, self, max_hours=max_hours, branch=branch)
        self._uploaded_at: float | None = None
        self._uploaded_epoch = self.session.progress.epoch

    def state_files(self) -> Mapping[str, Path]:
        """The saved state, the best weights and the teacher's probabilities; nothing without a state."""
        if not (self._folder / STATE_FILE).is_file():
            return {}
        names = (STATE_FILE, BEST_FILE, TEACHER_FILE)
        return {name: self._folder / name for name in names if (self._folder / name).is_file()}

    def unsent_files(self) -> Mapping[str, Path]:
        """All of them. Best weights that did not change are not uploaded again: the Hub has their contents."""
        return self.state_files()

    def with_files(self, progress: RunProgress, files: Mapping[str, Path]) -> RunProgress:
        """The progress with the epoch of the state on the branch, where that is behind."""
        if STATE_FILE in files:
            self._uploaded_at, self._uploaded_epoch = time.monotonic(), progress.epoch
        behind = self._uploaded_epoch < progress.epoch
        return progress.model_copy(update={"saved_epoch": self._uploaded_epoch if behind else None})

    def position(self, progress: RunProgress) -> str:
        """The epochs that ended."""
        return f"after epoch {progress.epoch}"

    def epoch_begins(self, epochs: int) -> None:
        """Training is about to begin an epoch of a recipe of `epochs`."""
        progress = self.session.progress
        if progress.status != "training" or progress.epochs != epochs:
            self.session.update(status="training", epochs=epochs)

    def epoch_done(self, history: History, monitor: Monitor = "macro_auroc") -> None:
        """An epoch, the last of `history`, ended, and its state is saved; `monitor` is the recipe's."""
        record = history[-1]
        self._seconds.append(record.train_seconds + record.validation_seconds)
        left = (self.session.progress.epochs or record.epoch) - record.epoch
        self._update(history, monitor, round(left * sum(self._seconds) / len(self._seconds), 1))
        due = self._uploaded_at is None or time.monotonic() - self._uploaded_at >= UPLOAD_SECONDS
        self.session.enqueue(self.state_files() if due else {}, f"Epoch {record.epoch}")

    def resumed(self, history: History, monitor: Monitor = "macro_auroc") -> None:
        """Training continues from a state of these epochs; a killed session may not have reported the last."""
        if history:
            self._update(history, monitor, self.session.progress.seconds_left)

    def trained(self, artifact: Path) -> None:
        """The artifact is complete; whether it is published is reported next."""
        hashes = {
            path.relative_to(artifact).as_posix(): sha256_of(path)
            for path in sorted(artifact.rglob("*"))
            if path.is_file()
        }
        self.session.update(status="complete", seconds_left=0.0, artifact=hashes)

    def _update(self, history: History, monitor: Monitor, seconds_left: float | None) -> None:
        best = best_epoch(history, monitor)
        undefined = best.macro_auroc is None and monitor == "macro_auroc"
        self.session.update(
            epoch=history[-1].epoch,
            points=tuple(EpochPoint.model_validate(one, from_attributes=True) for one in history),
            best_macro_auroc=best.macro_auroc,
            best_epoch=None if undefined else best.epoch,
            seconds_left=seconds_left,
        )
