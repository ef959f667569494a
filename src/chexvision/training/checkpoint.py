"""The state to resume from: written atomically, and read without unpickling code."""

from __future__ import annotations

import hashlib
import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from chexvision.config.recipe import Recipe
from chexvision.data.dataset import Split
from chexvision.data.loader import Rank
from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import atomic_path
from chexvision.recipes import with_tables
from chexvision.training.processes import from_first, ranks_where

_FORMAT = 2


@dataclass(slots=True)
class TrainingState:
    """Everything the rest of a run depends on. Random numbers need no state: they follow from seed and step.

    Args:
        fingerprint: of recipe and data; a state resumes only the run it was saved by.
        epoch: 0-based, the one to continue with.
        step: optimization steps of that epoch already taken.
        loss_sum: of that epoch's images so far, over all processes.
        grad_norm_sum: of that epoch's steps so far.
        seconds: spent training in that epoch so far.
        history: of the epochs that ended.
        model: the weights.
        ema: their moving average; None without.
        micro_batch_size: what was found to fit.
        optimizer: its moments; None at the start of a phase.
        scaler: of fp16; None without.
        best_shares: float64[N] of the best epoch's validation, see `Validation.shares`; earlier versions saved none.
        loss_sums: float32[world], the parts of `loss_sum`: as many processes continue with equal rounding errors.
            None without, and of earlier versions.
    """

    fingerprint: str
    epoch: int
    step: int
    loss_sum: float
    grad_norm_sum: float
    seconds: float
    history: str
    model: dict[str, Tensor]
    ema: dict[str, Any] | None
    micro_batch_size: int
    optimizer: dict[str, Any] | None
    scaler: dict[str, Any] | None
    best_shares: Tensor | None = None
    loss_sums: Tensor | None = None


class Saving:
    """When the state is saved within an epoch, and what follows; at the end of an epoch it always is.

    Args:
        seconds: after which it is saved again.
        on_saved: called in all processes after it was saved.
    """

    def __init__(self, seconds: float = math.inf, on_saved: Callable[[], None] = lambda: None) -> None:
        self._seconds = seconds
        self._on_saved = on_saved
        self._saved = time.monotonic()

    def due(self) -> bool:
        """Whether it is to be saved now."""
        return time.monotonic() - self._saved >= self._seconds

    def done(self) -> None:
        """It was saved."""
        self._saved = time.monotonic()
        self._on_saved()


def fingerprint(recipe: Recipe, *splits: Split) -> str:
    """Equal for runs that compute the same: recipe, images and their order."""
    # A split table and a data set of a mixture count by their names: each session has them in another folder.
    data = with_tables(recipe.data, lambda table: Path(table).name)
    named = tuple(one.model_copy(update={"name": Path(one.name).name}) for one in data.datasets)
    data = data.model_copy(update={"datasets": named})
    return earlier_fingerprint(recipe.model_copy(update={"data": data}), *splits)


def fingerprints(recipe: Recipe, *splits: Split) -> tuple[str, str]:
    """Those that the state of a run may have: today's first."""
    return fingerprint(recipe, *splits), earlier_fingerprint(recipe, *splits)


def earlier_fingerprint(recipe: Recipe, *splits: Split) -> str:
    """The fingerprint of states of 0.1.0 before its release, in which a split table counts by its path."""
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"track": "none"})})
    # A key that a later version added counts from where it differs from its default.
    digest = hashlib.sha256(recipe.model_dump_json(exclude_defaults=True).encode())
    for split in splits:
        digest.update("|".join(split.rows.filenames.tolist()).encode())
    return digest.hexdigest()


def save_state(path: Path, state: TrainingState) -> None:
    """Write `state` to `path` atomically."""
    with atomic_path(path) as partial:
        torch.save({"format": _FORMAT} | {name: getattr(state, name) for name in state.__slots__}, partial)


def load_state(path: Path, *fingerprints: str, rank: Rank | None = None) -> TrainingState | None:
    """The state saved at `path` with one of these fingerprints, or None where there is no state.

    Args:
        path: read by the first process alone.
        fingerprints: of the run.
        rank: of this process, if there are several; all of them call this and get the same.

    Raises:
        UsageError: the first process has no state, but another one has.
        ChexError: the file is damaged or belongs to another run.
    """

    def read() -> bytes | None:
        return path.read_bytes() if path.is_file() else None

    having = ranks_where(rank, path.is_file()) if rank is not None else []
    if having and having[0] != 0:
        raise UsageError(
            f"{path} is on the machine of process {having[0]} and not on that of the first process, which continues "
            "from it; move the folder there"
        )
    content = read() if rank is None else from_first(rank, read)
    if content is None:
        return None
    try:
        saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if saved.pop("format") != _FORMAT:
            raise ValueError("written by another version")
        state = TrainingState(**saved)
    except Exception as error:
        raise ChexError(f"{path} cannot be resumed from: {error}; remove it to start again") from error
    if state.fingerprint not in fingerprints:
        raise ChexError(
            f"{path} was saved by a run with another recipe or other data; give --work an empty folder, "
            "or repeat the command that started it"
        )
    return state
