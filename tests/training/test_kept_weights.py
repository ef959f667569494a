"""`training.keep_within`: the weights of a late epoch are kept unless they are clearly worse than the best."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chexvision.config.recipe import TrainingConfig
from chexvision.metrics.bootstrap import resample_patients
from chexvision.metrics.compare import macro_shares, standard_error
from chexvision.metrics.measure import macro_of
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.records import IntervalMethod
from chexvision.metrics.weighted import Measure
from chexvision.recipes import load_recipe
from chexvision.training.history import EpochRecord, epochs_without_gain, kept_epoch
from tests.training.runs import TINY, figures, tiny_training


def settings(keep_within: float) -> TrainingConfig:
    return load_recipe("scratch", overrides=[*TINY, f"training.keep_within={keep_within}"]).training


def records(scores: list[float | None], error: float | None = 0.02) -> list[EpochRecord]:
    blank = dict.fromkeys(EpochRecord.model_fields, 0.0)
    fixed: dict[str, object] = {
        "auroc": {},
        "weights": "trained",
        "difference_error": error,
        "phase": 1,
        "mixture": None,
        "micro_batch_size": 1,
    }
    return [
        EpochRecord.model_validate(blank | fixed | {"epoch": number, "macro_auroc": score})
        for number, score in enumerate(scores, 1)
    ]


@pytest.mark.parametrize(
    ("keep_within", "scores", "kept"),
    [
        (0, [0.70, 0.75, 0.74], 2),
        (1, [0.70, 0.75, 0.74], 3),  # 0.01 below the best, with an error of 0.02
        (1, [0.70, 0.75, 0.72, 0.71], 2),  # clearly worse
        (2, [0.70, 0.75, 0.72, 0.70], 3),
        (1, [None, 0.75, None], 2),
    ],
)
def test_the_latest_epoch_within_the_standard_error_is_kept(
    keep_within: float, scores: list[float | None], kept: int
) -> None:
    history = records(scores)
    assert kept_epoch(history, settings(keep_within)).epoch == kept
    assert epochs_without_gain(history, settings(keep_within)) == len(scores) - kept


def test_without_standard_errors_the_best_epoch_is_kept() -> None:
    assert kept_epoch(records([0.7, 0.75, 0.74], error=None), settings(1)).epoch == 2


def test_weights_can_be_kept_as_they_come() -> None:
    rng = np.random.default_rng(0)
    for scores in rng.normal(0.7, 0.03, (50, 12)).tolist():
        stored = 0
        for last in range(1, 13):
            kept = kept_epoch(records(scores[:last]), settings(1)).epoch
            assert kept in (stored, last)
            stored = kept


def test_training_keeps_the_last_weights_where_validation_cannot_tell_epochs_apart(
    synthetic_shards: Path, tmp_path: Path
) -> None:
    training = tiny_training(synthetic_shards, tmp_path, "training.keep_within=10")
    training.run()
    assert training.history[0].difference_error is None
    assert all(record.difference_error for record in training.history[1:])
    assert kept_epoch(training.history, training.recipe.training).epoch == len(training.history) == 3
    assert training.history[-1].weights == "averaged"


def test_where_the_loss_is_monitored_the_best_epoch_is_kept() -> None:
    by_loss = load_recipe("scratch", overrides=["training.keep_within=2", "training.monitor=loss"]).training
    history = [
        record.model_copy(update={"validation_loss": loss})
        for record, loss in zip(records([0.7, 0.7, 0.7]), (0.5, 0.3, 0.4), strict=True)
    ]
    assert kept_epoch(history, by_loss).epoch == 2


def test_a_resumed_run_compares_with_the_best_epoch_of_the_session_before(
    synthetic_shards: Path, tmp_path: Path
) -> None:
    whole = tiny_training(synthetic_shards, tmp_path / "whole", "training.keep_within=1")
    assert whole.run()
    calls = iter(range(100))
    parts, rule = tmp_path / "parts", "training.keep_within=1"
    first = tiny_training(synthetic_shards, parts, rule, should_stop=lambda: next(calls) >= whole.steps)
    assert not first.run() and len(first.history) == 1
    rest = tiny_training(synthetic_shards, parts, rule)
    assert rest.run()
    assert figures(rest.history) == figures(whole.history)


def test_the_standard_error_of_a_difference_is_that_of_resampled_patients() -> None:
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(300), 2)
    targets = rng.random((600, 3)) < (0.3, 0.1, 0.5)
    shared = rng.normal(size=(600, 3)) + targets + rng.normal(size=(300, 1)).repeat(2, axis=0)
    names, files = ("a", "b", "c"), np.arange(600).astype(str)
    first, second = (
        Predictions(names, files, patients, ((shared + noise) / 40 + 0.5).clip(0, 1), targets.astype(float))
        for noise in rng.normal(size=(2, 600, 3))
    )
    counts = resample_patients(300, IntervalMethod(resamples=1000, seed=0))
    resampled = [macro_of(Measure(of, only=("auroc",)).under(counts)["auroc"], [0, 1, 2]) for of in (first, second)]
    shares = [macro_shares(of) for of in (first, second)]
    assert shares[0] is not None and shares[1] is not None
    paired = standard_error(shares[1] - shares[0], patients)
    assert paired == pytest.approx(float(np.std(resampled[1] - resampled[0])), rel=0.1)
    assert paired < 0.9 * standard_error(shares[0], patients)
    assert macro_shares(first.take(np.zeros(3, np.int64))) is None
