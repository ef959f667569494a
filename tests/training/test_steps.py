"""One optimization step: learning rates of all groups, clipped gradients, weights of the training split."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from chexvision.data.loader import Rank
from chexvision.inference.labeled import labeled
from chexvision.metrics.measure import measure
from chexvision.models.normalize import plain
from chexvision.training.ema import MovingAverage
from chexvision.training.epoch_sums import EpochSums
from chexvision.training.history import best_epoch
from chexvision.training.loop import Training
from chexvision.training.loss import pos_weight
from chexvision.training.optimizer import learning_rate
from chexvision.training.training_session import STATE_FILE
from tests.training.runs import tiny_training, weights

UNFROZEN = "training.phases=[{epochs: 1, lr: 1e-2, min_lr: 1e-4, warmup_epochs: 0.5, freeze: none}]"


def moved(training: Training) -> float:
    """The largest change of a weight by training."""
    before = {name: value.detach().clone() for name, value in training.model.named_parameters()}
    assert training.run()
    return max(
        float((value.detach() - before[name]).abs().max()) for name, value in training.model.named_parameters()
    )


@pytest.mark.parametrize("taken", [1, 3])
def test_every_parameter_group_follows_the_schedule(synthetic_shards: Path, tmp_path: Path, taken: int) -> None:
    asked = itertools.count(1)
    training = tiny_training(synthetic_shards, tmp_path, UNFROZEN, should_stop=lambda: next(asked) >= taken)
    assert not training.run()
    saved = torch.load(tmp_path / STATE_FILE, weights_only=True)
    assert saved["step"] == taken
    rate = learning_rate(training.recipe.training.phases[0], taken - 1, training.steps)
    assert [group["lr"] for group in saved["optimizer"]["param_groups"]] == [rate, rate]


def test_a_parameter_without_decay_moves_by_the_learning_rate(synthetic_shards: Path, tmp_path: Path) -> None:
    """Adam's first step changes a weight by exactly the rate for any gradient; norms and biases are group two."""
    training = tiny_training(synthetic_shards, tmp_path, UNFROZEN, should_stop=lambda: True)
    before = {name: value.detach().clone() for name, value in training.model.named_parameters()}
    assert not training.run()
    rate = learning_rate(training.recipe.training.phases[0], 0, training.steps)
    change = (training.model.binary_head.bias.detach() - before["binary_head.bias"]).abs()
    assert float(change) == pytest.approx(rate, rel=1e-3)


def test_gradient_norms_are_recorded_before_clipping(synthetic_shards: Path, tmp_path: Path) -> None:
    """Adam is invariant to the gradient scale, but not below its epsilon."""
    settings = [UNFROZEN, "optim.weight_decay=0"]
    free = tiny_training(synthetic_shards, tmp_path / "free", *settings, "optim.clip_norm=1000")
    clipped = tiny_training(synthetic_shards, tmp_path / "clipped", *settings, "optim.clip_norm=1e-13")
    assert moved(free) > 1e-2
    assert moved(clipped) < 1e-5
    assert clipped.history[0].grad_norm > 0.05


def test_pos_weight_is_computed_on_the_training_split(synthetic_shards: Path, tmp_path: Path) -> None:
    training = tiny_training(synthetic_shards, tmp_path, "loss.pos_weight_power=0.7", "loss.pos_weight_cap=30")
    of_train, of_validation = (
        pos_weight(split.rows.findings, 0.7, 30) for split in (training.train_split, training.validation_split)
    )
    assert not torch.allclose(of_train, of_validation, rtol=0.05)
    torch.testing.assert_close(training.loss.positive_weights, of_train)


def test_loss_is_a_mean_over_images_and_grad_norm_over_steps(synthetic_shards: Path, tmp_path: Path) -> None:
    """With fixed weights: each image counts once, and a filler image does not count."""
    still = ["training.phases=[{epochs: 1, lr: 1e-30, min_lr: 0, warmup_epochs: 0, freeze: all}]"]
    still += [f"augment.{key}=0" for key in ("hflip", "rotate_degrees", "translate", "shear_degrees", "scale")]
    still += [f"augment.{key}=0" for key in ("brightness", "contrast", "blur", "erase")] + ["model.dropout=0"]
    full_batch = tiny_training(synthetic_shards, tmp_path / "full_batch", *still, "optim.batch_size=999")
    assert full_batch.run()
    images = len(full_batch.train_split)
    assert (full_batch.steps, images % 24 > 0) == (1, True)
    for batch in (24, -(-images // 2), images - 1):
        work = tmp_path / str(batch)
        training = tiny_training(synthetic_shards, work, *still, f"optim.batch_size={batch}")
        assert training.run()
        assert training.history[0].train_loss == pytest.approx(full_batch.history[0].train_loss, rel=1e-6)
        if batch == -(-images // 2):  # the mean of two norms, not their sum
            assert training.history[0].grad_norm == pytest.approx(full_batch.history[0].grad_norm, rel=0.3)


def test_a_resumed_run_keeps_the_probed_micro_batch(synthetic_shards: Path, tmp_path: Path) -> None:
    first = tiny_training(synthetic_shards, tmp_path, should_stop=lambda: True)
    first.micro_batch_size = 4  # as after an out-of-memory error
    assert not first.run()
    resumed = tiny_training(synthetic_shards, tmp_path)
    assert resumed.run()
    assert {record.micro_batch_size for record in resumed.history} == {4}


def test_the_average_is_updated_once_per_step_after_the_weights(synthetic_shards: Path, tmp_path: Path) -> None:
    stopped = tiny_training(synthetic_shards, tmp_path, UNFROZEN, should_stop=lambda: True)
    assert not stopped.run()
    assert stopped.ema is not None and stopped.ema.steps == 1
    for (name, average), weight in zip(
        stopped.ema.module.named_parameters(), stopped.model.parameters(), strict=True
    ):
        assert torch.equal(average, weight), name  # the first average does not contain the initial weights


def test_the_average_resumes_from_its_saved_state() -> None:
    from tests.training.test_ema import tiny

    model = tiny()
    first = MovingAverage(model, 0.9)
    for _ in range(3):
        first.update()
    second = MovingAverage(tiny(), 0.9)
    second.load_state_dict(first.state_dict())
    assert second.steps == 3
    for name, value in first.module.state_dict().items():
        assert torch.equal(value, second.module.state_dict()[name]), name


def test_the_history_records_the_validation_score_of_the_kept_weights(synthetic_shards: Path, tmp_path: Path) -> None:
    """In evaluation mode: without dropout and without batch statistics."""
    training = tiny_training(synthetic_shards, tmp_path, "model.dropout=0.5", "optim.micro_batch_size=5")
    assert training.run()
    best = best_epoch(training.history, "macro_auroc")
    split = training.validation_split
    model = training.model
    model.load_state_dict(weights(tmp_path))
    model.eval()
    with torch.no_grad():
        logits = model(plain(torch.from_numpy(np.array(split.images))))
        losses = training.loss(logits, torch.from_numpy(split.targets))
    both = torch.cat([logits["multilabel_logits"], logits["binary_logits"]], dim=1).sigmoid()
    metrics = measure(labeled(split.rows, both.numpy()), fewest=1)
    assert best.validation_loss == pytest.approx(float(losses.mean()), rel=1e-5)
    assert best.macro_auroc == pytest.approx(metrics.macro_auroc, abs=1e-6)
    assert best.binary_f1 == pytest.approx(metrics.binary_f1, abs=1e-6)
    assert best.auroc == {name: pytest.approx(of["auroc"].value, abs=1e-6) for name, of in metrics.findings.items()}


def test_every_epoch_starts_in_training_mode(synthetic_shards: Path, tmp_path: Path) -> None:
    """Validation leaves the network in evaluation mode, without updates of norms and without dropout."""
    phase = "training.phases=[{epochs: 2, lr: 1e-3, min_lr: 0, warmup_epochs: 0, freeze: none}]"
    training = tiny_training(synthetic_shards, tmp_path, phase, "optim.batch_size=999", "optim.micro_batch_size=999")
    assert training.run()
    (norm,) = (one for one in training.model.modules() if isinstance(one, torch.nn.BatchNorm2d))
    assert int(norm.num_batches_tracked) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize("parts", [None, torch.tensor([30.0, 10.0])])
def test_the_loss_that_is_shown_is_of_the_images_of_all_processes(parts: torch.Tensor | None) -> None:
    """The first process counts the images of all, and has the loss of its own."""
    cpu = torch.device("cpu")
    for rank in range(2):
        sums = EpochSums(cpu)
        sums.resume(40.0, parts, 0.0, 0.0, Rank(cpu, rank, 2))
        assert float(sums.loss_of_all(2)) == 40
        sums.loss += 5.0
        assert float(sums.loss_of_all(2)) == 50
    alone = EpochSums(cpu)
    alone.resume(40.0, torch.tensor([40.0]), 0.0, 0.0, Rank(cpu))
    alone.loss += 5.0
    assert float(alone.loss_of_all(1)) == 45
