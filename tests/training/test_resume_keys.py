"""A run that is cut and resumed gives the bits of one that was not, under every optimizer, loss and schedule."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from chexvision.training.training_session import STATE_FILE
from tests.training.runs import figures, run_teacher, tiny_training, true_from, weights

FEW = ("data.max_train_images=40", "optim.batch_size=16")
PLATEAU = (
    "training.phases=[{epochs: 1, lr: 1e-3, min_lr: 0, warmup_epochs: 0, freeze: all},"
    " {epochs: 3, lr: 1e-2, min_lr: 0, warmup_epochs: 0.5, freeze: partial, schedule: plateau, decay_epochs: 1}]"
)
STEP = (
    "training.phases=[{epochs: 2, lr: 1e-3, min_lr: 0, warmup_epochs: 0, freeze: 1, schedule: step, decay_epochs: 1},"
    " {epochs: 2, lr: 1e-2, min_lr: 0, warmup_epochs: 0, freeze: none, schedule: constant}]"
)
SETTINGS = {
    "adam, layer decay, partial freezing, plateau of the loss": (
        *(PLATEAU, "optim.name=adam", "optim.layer_decay=0.5", "training.monitor=loss"),
    ),
    "sgd, all decays, asymmetric loss, a frozen stage, steps": (
        *(STEP, "optim.name=sgd", "optim.decay_norms=true", "loss.name=asymmetric", "loss.binary_weight=0"),
    ),
    "adamw, teacher, mixing, mirrored images, growing images": (
        "training.phases=[{epochs: 1, lr: 1e-3, min_lr: 0, warmup_epochs: 0, freeze: none, image_size: 32},"
        " {epochs: 2, lr: 1e-3, min_lr: 0, warmup_epochs: 0, freeze: partial}]",
        *("optim.layer_decay=0.7", "augment.mixup_alpha=0.4", "augment.cutmix_alpha=1", "data.mirror=true"),
        *("data.image_size=40", "loss.teacher_weight=0.3", "loss.multilabel_weight=0.7"),
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_cut_run_resumes_to_the_same_bits(synthetic_shards: Path, tmp_path: Path, name: str) -> None:
    settings = [*FEW, *SETTINGS[name]]
    if "teacher" in name:
        settings.append(f"loss.teacher={run_teacher(synthetic_shards, tmp_path / 'teacher')}")
    uncut = tiny_training(synthetic_shards, tmp_path / "uncut", *settings)
    assert uncut.run() and uncut.steps >= 3
    cuts = 0
    while True:
        session = tiny_training(synthetic_shards, tmp_path / "cut", *settings, should_stop=true_from(3))
        if session.run():
            break
        cuts += 1
        assert cuts < 9
    assert cuts >= 1
    assert figures(session.history) == figures(uncut.history)
    states = [torch.load(tmp_path / of / STATE_FILE, weights_only=True) for of in ("uncut", "cut")]
    for of in ("model", "ema"):
        first, second = (state[of] if of == "model" else state[of]["module"] for state in states)
        assert all(torch.equal(first[key], second[key]) for key in first), of
    groups = [state["optimizer"]["param_groups"] for state in states]
    assert groups[0] == groups[1]
    assert all(
        torch.equal(value, states[1]["optimizer"]["state"][number][key])
        for number, of in states[0]["optimizer"]["state"].items()
        for key, value in of.items()
        if isinstance(value, torch.Tensor)
    )
    kept = [weights(tmp_path / of) for of in ("uncut", "cut")]
    assert all(torch.equal(kept[0][key], kept[1][key]) for key in kept[0])


def test_every_new_key_belongs_to_another_run(synthetic_shards: Path, tmp_path: Path) -> None:
    """A state is not resumed by a recipe that differs in one of them."""
    changes = [
        *("optim.name=adam", "optim.name=sgd", "optim.momentum=0.5", "optim.decay_norms=true"),
        *("optim.layer_decay=0.5", "training.monitor=loss", "loss.name=asymmetric", "loss.asymmetric_clip=0.1"),
        *("loss.asymmetric_gamma_negative=2", "loss.asymmetric_gamma_positive=2", "loss.teacher_weight=0.1"),
    ]
    recipes = [FEW, *((*FEW, change) for change in changes)]
    seen = {tiny_training(synthetic_shards, tmp_path, *recipe)._fingerprints[0] for recipe in recipes}
    assert len(seen) == len(changes) + 1


def test_frozen_weights_and_their_average_stay_as_they_are(synthetic_shards: Path, tmp_path: Path) -> None:
    phase = "training.phases=[{epochs: 2, lr: 1e-2, min_lr: 0, warmup_epochs: 0, freeze: partial}]"
    training = tiny_training(synthetic_shards, tmp_path, *FEW, phase)
    assert training.ema is not None
    stages = training.model.backbone.layers(coarse=True)
    frozen = {f"backbone.{name}" for stage in stages[:-1] for name in stage}
    before = {name: value.clone() for name, value in training.model.named_parameters()}
    assert frozen and training.run()
    for network in (training.model, training.ema.module):
        for name, value in network.named_parameters():
            assert torch.equal(value, before[name]) == (name in frozen), name
