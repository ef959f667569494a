from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from chexvision.models.classifier import CheXVision
from chexvision.training.ema import MovingAverage
from chexvision.training.training_session import BEST_FILE
from tests.small_backbones import Chain
from tests.training import runs
from tests.training.runs import tiny_training


def tiny() -> CheXVision:
    return CheXVision(backbone="tiny", hidden_features=0)


def test_the_average_of_weights_and_norms_follows_the_decay() -> None:
    assert runs  # registers the tiny backbone
    model = tiny()
    ema = MovingAverage(model, 0.9)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(30):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model.train()(torch.rand(2, 3, 16, 16))
        ema.update()
        kept = 0.0 if step == 0 else min(0.9, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            expected[name] = (
                expected[name] * kept + value * (1 - kept) if value.is_floating_point() else value.clone()
            )
    for name, value in ema.module.state_dict().items():
        assert torch.allclose(value, expected[name], atol=1e-5), name


def test_a_network_without_norms_can_be_averaged() -> None:
    model = tiny()
    model.backbone = Chain(nn.Conv2d(3, 16, 3), channels=16)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ema = MovingAverage(model, 0.9)
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    for _ in range(2):
        ema.update()
    assert not torch.equal(before["backbone.0.weight"], ema.module.state_dict()["backbone.0.weight"])


def test_the_better_of_trained_and_averaged_weights_is_kept(synthetic_shards: Path, tmp_path: Path) -> None:
    training = tiny_training(synthetic_shards, tmp_path)
    training.run()
    for record in training.history:
        figures = {"trained": record.trained_macro_auroc, "averaged": record.averaged_macro_auroc}
        assert record.macro_auroc == max(value for value in figures.values() if value is not None)
        assert record.macro_auroc == figures[record.weights]
    assert (tmp_path / BEST_FILE).is_file()


def test_without_a_decay_there_is_no_average(synthetic_shards: Path, tmp_path: Path) -> None:
    training = tiny_training(synthetic_shards, tmp_path, "training.ema_decay=0")
    training.run()
    assert training.ema is None
    assert {(record.weights, record.averaged_macro_auroc) for record in training.history} == {("trained", None)}
