"""What each epoch measured, and when training stops getting better."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from chexvision.config.recipe import Monitor, TrainingConfig

Weights = Literal["trained", "averaged"]


class DatasetScores(BaseModel):
    """One data set of a mixture, by the findings that it labels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: int
    macro_auroc: float | None
    auroc: dict[str, float | None]  # by finding
    binary_auroc: float | None


class MixtureScores(BaseModel):
    """The data sets of a mixture by their short names, and the macro AUROC over all of their images together.

    Where a finding is more frequent in one data set, the pooled figure rewards telling the data sets apart.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pooled_macro_auroc: float | None
    datasets: dict[str, DatasetScores]


class EpochRecord(BaseModel):
    """One entry of ``history.json``. Figures of validation unless stated otherwise; null where undefined.

    They are those of `weights`: the trained weights, or their moving average where that ranks better (with
    ``keep_within``, where it is not clearly worse).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epoch: int  # from 1
    phase: int  # from 1
    train_loss: float
    validation_loss: float
    macro_auroc: float | None  # of a mixture: the mean of its data sets' macro AUROCs, also in trained_ and averaged_
    difference_error: float | None = None  # standard error, by patients, of the difference from the best epoch before
    auroc: dict[str, float | None]  # by finding
    binary_auroc: float | None
    binary_f1: float  # at probability 0.5
    weights: Weights
    trained_macro_auroc: float | None
    averaged_macro_auroc: float | None
    lr_first: float
    lr_last: float
    train_seconds: float
    validation_seconds: float
    train_images_per_second: float
    waited_seconds: float  # of train_seconds, for the next batch; a GPU may still have been busy
    grad_norm: float  # mean over the steps, before clipping; one that overflowed in fp16 counts as 0
    loss_scale: float | None  # of fp16, at the end
    micro_batch_size: int  # images per forward pass and process
    peak_memory_mb: float | None  # of the epoch's tensors on a GPU, per process
    mixture: Annotated[MixtureScores | None, Field(exclude_if=lambda value: value is None)] = None


History = list[EpochRecord]
_HISTORY = TypeAdapter(History)


def dump_history(history: History) -> str:
    """The text of a ``history.json``."""
    return _HISTORY.dump_json(history, indent=2).decode() + "\n"


def read_history(text: str | bytes) -> History:
    """The records of a ``history.json``.

    Raises:
        pydantic.ValidationError: it is not one.
    """
    return _HISTORY.validate_json(text)


def score(monitor: Monitor, macro_auroc: float | None, loss: float) -> float:
    """What makes weights the best: the higher, the better.

    Args:
        monitor: the recipe's.
        macro_auroc: of validation. Where it is undefined, the loss ranks weights, below every AUROC.
        loss: of validation.
    """
    if monitor == "loss":
        return -loss
    return macro_auroc if macro_auroc is not None else -1.0 - loss


def scores(history: History, monitor: Monitor) -> list[float]:
    """The `score` of each epoch."""
    return [score(monitor, record.macro_auroc, record.validation_loss) for record in history]


def best_epoch(history: History, monitor: Monitor) -> EpochRecord:
    """The first epoch with the highest `score`."""
    return max(history, key=lambda record: score(monitor, record.macro_auroc, record.validation_loss))


def kept_epoch(history: History, settings: TrainingConfig) -> EpochRecord:
    """The epoch whose weights are kept, see `TrainingConfig.keep_within`.

    With every epoch that is added, it is the same as before or the added one: weights can be kept as they come.
    """
    best = best_epoch(history, settings.monitor)
    if not settings.tolerance:
        return best
    near = [one for one in history[history.index(best) :] if _near(one, best, settings.tolerance)]
    return near[-1] if near else best


def _near(record: EpochRecord, best: EpochRecord, errors: float) -> bool:
    """Whether the macro AUROC of `record` is no more than so many standard errors below that of `best`."""
    if record.macro_auroc is None or best.macro_auroc is None or record.difference_error is None:
        return False
    return record.macro_auroc >= best.macro_auroc - errors * record.difference_error


def epochs_without_gain(history: History, settings: TrainingConfig) -> int:
    """Epochs since the one whose weights are kept."""
    return history[-1].epoch - kept_epoch(history, settings).epoch if history else 0
