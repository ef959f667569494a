"""One training of a cross-validation: by the training loop or by the baseline's, and what its weights predict."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from safetensors.torch import load_file

from chexvision.bench.predecessor import train_baseline
from chexvision.config.recipe import Recipe
from chexvision.data.dataset import Split
from chexvision.inference.labeled import labeled
from chexvision.inference.predict_split import predict_split
from chexvision.inference.tta import flipped
from chexvision.metrics.predictions import Predictions
from chexvision.models.classifier import CheXVision
from chexvision.models.network_engine import PLAIN, View, unchanged
from chexvision.training.history import kept_epoch
from chexvision.training.loop import Training
from chexvision.training.training_session import BEST_FILE

SELECTED = "selected"
# What is predicted of one training: the selected weights, the same with the mirrored image averaged, and the last
# epoch's weights and their average, which no validation split selected.
WAYS = (SELECTED, "selected, flip", "last", "last average")
_FLIP: tuple[View, ...] = (unchanged, flipped)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is recorded of a training beside its predictions.

    Args:
        validation_auroc: macro AUROC of the selected weights.
        epoch: the selected one, from 1.
        weights: "trained" or "averaged".
        cpu_seconds: of training and its validation.
        seconds: the same by the clock.
    """

    validation_auroc: float
    epoch: int
    weights: str
    cpu_seconds: float
    seconds: float


@dataclass(frozen=True, slots=True)
class FoldResult:
    """A training, and what its weights predict for the fold, by the names of `WAYS`."""

    facts: RunFacts
    predictions: dict[str, Predictions]


def train_by_recipe(
    recipe: Recipe, model: CheXVision, splits: Mapping[str, Split], accelerator: Accelerator, work: Path
) -> FoldResult:
    """Train `model` by the training loop, with its state in the folder `work`."""
    clock = _Clock()
    training = Training(recipe, model, splits["train"], splits["validation"], accelerator, work)
    training.run()
    cpu_seconds, seconds = clock.read()
    predict = _predictor(splits["test"], accelerator)
    predictions = {"last": predict(model)}
    if training.ema is not None:
        predictions["last average"] = predict(training.ema.module)
    model.load_state_dict(load_file(work / BEST_FILE))
    predictions |= {SELECTED: predict(model), "selected, flip": predict(model, _FLIP)}
    best = kept_epoch(training.history, recipe.training)
    facts = RunFacts(best.macro_auroc or 0.0, best.epoch, best.weights, cpu_seconds, seconds)
    return FoldResult(facts, predictions)


def train_by_predecessor(
    model: CheXVision, splits: Mapping[str, Split], accelerator: Accelerator, seed: int, epochs: int
) -> FoldResult:
    """Train `model` by the baseline's loop."""
    clock = _Clock()
    trained = train_baseline(model, splits["train"], splits["validation"], accelerator, seed, epochs)
    cpu_seconds, seconds = clock.read()
    predict = _predictor(splits["test"], accelerator)
    predictions = {"last": predict(model)}
    model.load_state_dict(trained.best)
    predictions |= {SELECTED: predict(model), "selected, flip": predict(model, _FLIP)}
    facts = RunFacts(trained.validation_auroc, trained.epoch, "trained", cpu_seconds, seconds)
    return FoldResult(facts, predictions)


def _predictor(split: Split, accelerator: Accelerator) -> Callable[..., Predictions]:
    def predict(model: CheXVision, views: tuple[View, ...] = PLAIN) -> Predictions:
        return labeled(split.rows, predict_split(model.eval(), split, accelerator, 64, views=views)[0])

    return predict


class _Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._cpu, self._began = time.process_time(), time.perf_counter()

    def read(self) -> tuple[float, float]:
        """Of this process's CPU time, and by the clock."""
        return time.process_time() - self._cpu, time.perf_counter() - self._began
