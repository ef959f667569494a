"""A session that trains: its progress is epochs, its state the files that the loop saves."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from chexvision.files.atomic import sha256_of
from chexvision.runs.branch import RunBranch
from chexvision.runs.run_progress import EpochPoint, RunProgress
from chexvision.runs.session import Session

if TYPE_CHECKING:
    from chexvision.training.history import EpochRecord, History

STATE_FILE = "state.pt"
BEST_FILE = "best.safetensors"  # may be missing: before the first epoch ends there are no best weights
# Between uploads of the state: each is some 100 MB, and a killed session costs no more than this.
UPLOAD_SECONDS = 30 * 60.0


class TrainingSession(Session):
    """A `Session` around training; see there for its arguments."""

    def __init__(
        self, work: Path, run_id: str, *, max_hours: float | None = None, branch: RunBranch | None = None
    ) -> None:
        super().__init__(work, run_id, max_hours=max_hours, branch=branch)
        self._seconds: list[float] = []
        self._handed_at: float | None = None
        self._handed_epoch = self.progress.epoch

    def state_files(self) -> Mapping[str, Path]:
        """The saved state and the best weights; nothing without a state."""
        if not (self.work / STATE_FILE).is_file():
            return {}
        return {name: self.work / name for name in (STATE_FILE, BEST_FILE) if (self.work / name).is_file()}

    def so_far(self) -> str:
        """The epochs that ended."""
        return f"after epoch {self.progress.epoch}"

    def epoch_begins(self, epochs: int) -> None:
        """Training is about to begin an epoch of a recipe of `epochs`."""
        if self.progress.status != "training" or self.progress.epochs != epochs:
            self.tell(status="training", epochs=epochs)

    def epoch_done(self, history: History) -> None:
        """An epoch, the last of `history`, ended, and its state is saved in `work`."""
        record = history[-1]
        self._seconds.append(record.train_seconds + record.validation_seconds)
        left = (self.progress.epochs or record.epoch) - record.epoch
        self._tell_epochs(history, round(left * sum(self._seconds) / len(self._seconds), 1))
        due = self._handed_at is None or time.monotonic() - self._handed_at >= UPLOAD_SECONDS
        self.hand_on(self.state_files() if due else {}, f"Epoch {record.epoch}")

    def handed(self, files: Mapping[str, Path]) -> RunProgress:
        """See `Session.handed`. Best weights that did not change are not sent again: the Hub has their contents."""
        if STATE_FILE in files:
            self._handed_at, self._handed_epoch = time.monotonic(), self.progress.epoch
        behind = self._handed_epoch < self.progress.epoch
        return self.progress.model_copy(update={"saved_epoch": self._handed_epoch if behind else None})

    def resumed(self, history: History) -> None:
        """Training goes on from a state of these epochs; a session that was killed may not have told of the last."""
        if history:
            self._tell_epochs(history, self.progress.seconds_left)

    def _tell_epochs(self, history: History, seconds_left: float | None) -> None:
        scored = [(one.macro_auroc, -one.epoch) for one in history if one.macro_auroc is not None]
        best = max(scored, default=None)
        self.tell(
            epoch=history[-1].epoch,
            points=tuple(map(_point, history)),
            best_macro_auroc=best[0] if best else None,
            best_epoch=-best[1] if best else None,
            seconds_left=seconds_left,
        )

    def trained(self, artifact: Path) -> None:
        """The artifact is whole; whether it is published shows next."""
        hashes = {
            path.relative_to(artifact).as_posix(): sha256_of(path)
            for path in sorted(artifact.rglob("*"))
            if path.is_file()
        }
        self.tell(status="complete", seconds_left=0.0, artifact=hashes)


def _point(record: EpochRecord) -> EpochPoint:
    return EpochPoint(
        epoch=record.epoch,
        train_loss=record.train_loss,
        validation_loss=record.validation_loss,
        macro_auroc=record.macro_auroc,
    )
