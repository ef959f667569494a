"""What is reported while training: a bar or plain lines within an epoch, one line after it; to the session, too."""

from __future__ import annotations

from torch import Tensor

from chexvision.backbones import license_note
from chexvision.config.recipe import Recipe
from chexvision.config.weights_source import WeightsReport
from chexvision.data.loader import steps_per_epoch
from chexvision.progress import Progress, duration
from chexvision.tracking.figures import RunFigures
from chexvision.tracking.tracker import Tracker
from chexvision.training.history import History
from chexvision.training.training_session import TrainingProgress


class ConsoleReporter:
    """Reports training on the console."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._epochs = 0

    def initialized(self, weights: WeightsReport) -> None:
        """Print what training starts from, and a license of it that restricts its use."""
        print(f"weights: {weights.line()}", flush=True)
        note = license_note(f"in {weights.source}", weights.license)
        if note is not None:
            print(f"note: {note}", flush=True)

    def resumed(self, history: History) -> None:
        """Print after which epoch a saved state continues."""
        if history:
            print(f"continuing after epoch {history[-1].epoch}", flush=True)

    def epoch_begins(self, epoch: int, epochs: int, images: int, done: int) -> None:
        """Start counting the epoch's images, `done` of which were seen before an interruption."""
        self._epochs = epochs
        self._progress = Progress(f"epoch {epoch}/{epochs}", images, "images", done)
        self._progress.__enter__()

    def step_done(self, images: int, loss_sum: Tensor) -> None:
        """Count a step of `images`; `loss_sum`, on the device, is the epoch's so far, over all processes."""
        progress = self._progress
        if progress is None:
            return
        if progress.due:
            # Reading the loss waits for the device, so it is read only when it is shown.
            seen, loss = progress.done + images, float(loss_sum)
            progress.note = f"loss {loss / max(1, seen):.4f}"
            self.loss_read(seen, loss)
        progress.advance(images)

    def loss_read(self, images: float, loss_sum: float) -> None:
        """The loss was read, summed over the epoch's first `images`; a subclass may use it as well."""

    def epoch_done(self, history: History, is_kept: bool) -> None:
        """Print what the last epoch measured."""
        record = history[-1]
        if self._progress is not None:
            self._progress.__exit__(None, None, None)
        macro = f"{'mean ' if record.mixture is not None else ''}macro AUROC {_text(record.macro_auroc)}"
        print(
            f"epoch {record.epoch}/{self._epochs} · loss {record.train_loss:.4f} · "
            f"validation {record.validation_loss:.4f} · {macro} {record.weights}"
            f"{', kept' if is_kept else ''} · "
            f"{record.train_images_per_second:,.0f} images/s · "
            f"{duration(record.train_seconds + record.validation_seconds)}",
            flush=True,
        )
        if record.mixture is not None:
            for name, of in record.mixture.datasets.items():
                findings = sum(value is not None for value in of.auroc.values())
                print(
                    f"  {name} · macro AUROC {_text(of.macro_auroc)} over {findings} findings · "
                    f"normal/abnormal {_text(of.binary_auroc)} · {of.images:,} images",
                    flush=True,
                )


class RunReporter(ConsoleReporter):
    """Reports to the console, to the session and to the tracker."""

    def __init__(self, progress: TrainingProgress, recipe: Recipe, tracker: Tracker, images: int) -> None:
        super().__init__()
        self._run = progress
        self._monitor = recipe.training.monitor
        size = recipe.optim.batch_size
        self._tracked = RunFigures(tracker, steps_per_epoch(images, size), size)

    def resumed(self, history: History) -> None:
        """Report the epochs of a saved state everywhere."""
        super().resumed(history)
        self._run.resumed(history, self._monitor)
        for record in history:  # of a session elsewhere, or one that was killed before they were tracked
            self._tracked.epoch(record.epoch, record.model_dump())

    def epoch_begins(self, epoch: int, epochs: int, images: int, done: int) -> None:
        """Report it everywhere."""
        super().epoch_begins(epoch, epochs, images, done)
        self._run.epoch_begins(epochs)
        self._tracked.epoch_begins(epoch)

    def loss_read(self, images: float, loss_sum: float) -> None:
        """Track it, too."""
        self._tracked.loss(images, loss_sum)

    def epoch_done(self, history: History, is_kept: bool) -> None:
        """Report what it measured everywhere."""
        super().epoch_done(history, is_kept)
        self._run.epoch_done(history, self._monitor)
        self._tracked.epoch(history[-1].epoch, history[-1].model_dump())


def _text(auroc: float | None) -> str:
    return "–" if auroc is None else f"{auroc:.4f}"
