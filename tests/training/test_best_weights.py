"""Which weights are kept and published: those with the best validation score of the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from chexvision.data.dataset import Split
from chexvision.files.json_files import read_record
from chexvision.inference.labeled import labeled
from chexvision.inference.predict_split import predict_split
from chexvision.metrics.calibration import Calibration
from chexvision.metrics.operating_points import choose_operating_points
from chexvision.metrics.records import Estimate
from chexvision.models.classifier import CheXVision
from chexvision.provenance import Provenance
from chexvision.recipes import load_recipe
from chexvision.training import validation
from chexvision.training.loss import DualHeadLoss
from chexvision.training.run import run_training
from chexvision.training.training_session import TrainingProgress
from chexvision.training.validation import Validation, validate
from tests.training.runs import TINY, tiny_training, weights

Snapshots = list[dict[str, torch.Tensor]]
Scripted = Callable[[list[float]], Snapshots]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """Makes validation return given macro AUROCs, for trained and averaged weights in turn; collects the weights."""

    def script(scores: list[float]) -> Snapshots:
        seen: Snapshots = []

        def scripted_validate(
            network: CheXVision, split: Split, accelerator: Accelerator, batch_size: int, loss: DualHeadLoss
        ) -> Validation:
            found = validate(network, split, accelerator, batch_size, loss)
            macro = found.metrics.macro.model_copy(update={"estimates": {"auroc": Estimate(value=scores[len(seen)])}})
            seen.append({name: value.clone() for name, value in network.state_dict().items()})
            return replace(found, metrics=found.metrics.model_copy(update={"macro": macro}))

        monkeypatch.setattr(validation, "validate", scripted_validate)
        return seen

    return script


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([0.6, 0.5, 0.7, 0.9, 0.8, 0.1], 3),
        ([0.6, 0.5, 0.9, 0.7, 0.1, 0.8], 2),
        ([0.9, 0.5, 0.8, 0.9, 0.9, 0.1], 0),  # the first of equals
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 5),
    ],
    ids=["averaged in the middle", "trained in the middle", "first", "last"],
)
def test_the_weights_of_the_best_score_are_kept(
    scripted: Scripted, synthetic_shards: Path, tmp_path: Path, scores: list[float], best: int
) -> None:
    seen = scripted(scores)
    training = tiny_training(synthetic_shards, tmp_path)
    assert training.run()
    assert [equal(weights(tmp_path), one) for one in seen] == [i == best for i in range(6)]
    assert [record.macro_auroc for record in training.history] == [
        max(pair) for pair in zip(scores[::2], scores[1::2], strict=True)
    ]
    assert training.history[best // 2].weights == ("trained", "averaged")[best % 2]


def test_a_resumed_run_keeps_the_best_weights_of_the_session_before(
    scripted: Scripted, synthetic_shards: Path, tmp_path: Path
) -> None:
    seen = scripted([0.9, 0.1, 0.2, 0.3, 0.4, 0.5])
    steps = tiny_training(synthetic_shards, tmp_path).steps
    calls = iter(range(10 * steps))
    first = tiny_training(synthetic_shards, tmp_path, should_stop=lambda: next(calls) >= steps)  # in the second epoch
    assert not first.run()
    assert len(seen) == 2
    assert tiny_training(synthetic_shards, tmp_path).run()
    assert len(seen) == 6 and equal(weights(tmp_path), seen[0])


def test_the_best_weights_are_evaluated_and_published_not_the_last(
    scripted: Scripted, synthetic_shards: Path, tmp_path: Path
) -> None:
    seen = scripted([0.2, 0.1, 0.3, 0.9, 0.4, 0.1])
    recipe = load_recipe("scratch", overrides=[*TINY, "optim.micro_batch_size=24"])
    provenance = Provenance.here("scratch")
    progress = TrainingProgress(tmp_path, provenance.run_id)
    outcome = run_training(recipe, synthetic_shards, tmp_path, provenance, progress)
    assert outcome.artifact is not None and outcome.metrics is not None
    assert equal(load_file(outcome.artifact / "model.safetensors"), seen[3])
    assert outcome.metrics.epoch == 2

    model = CheXVision.from_pretrained(outcome.artifact)
    split = tiny_training(synthetic_shards, tmp_path / "other").validation_split
    probabilities, _ = predict_split(model, split, Accelerator(cpu=True), 24)
    again = choose_operating_points(labeled(split.rows, probabilities), "d", "validation", "f1", "platt").calibration
    assert again is not None
    curves = read_record(outcome.artifact / "calibration.json", Calibration).curves
    assert curves.keys() == again.curves.keys() and any(curves.values())
    for name, curve in curves.items():
        expected = again.curves[name]
        assert (curve is None) == (expected is None), name
        if curve is not None and expected is not None:
            assert (curve.slope, curve.intercept) == pytest.approx((expected.slope, expected.intercept), rel=1e-3)
