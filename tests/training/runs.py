"""Small runs of the real loop, in this process or in a separate one."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from chexvision.backbones import BACKBONES, BackboneFacts
from chexvision.data.mixture import find_data
from chexvision.data.source import find_shards, preprocessing_of
from chexvision.models.untrained import build_model
from chexvision.recipes import load_recipe
from chexvision.training.hardware import start_accelerator
from chexvision.training.history import History
from chexvision.training.loop import Training
from chexvision.training.start.distillation import with_teacher
from chexvision.training.training_session import BEST_FILE

# An additional backbone is one entry of the registry. This one is small enough to train in milliseconds.
BACKBONES["tiny"] = BackboneFacts(builder="tests.small_backbones:tiny_backbone")

TINY = [
    "model.backbone=tiny",
    "data.image_size=32",
    "data.clahe.enabled=false",
    "training.precision=fp32",
    "training.keep_within=0",
    "optim.batch_size=24",
    "optim.micro_batch_size=8",
    "training.phases=[{epochs: 1, lr: 1e-3, min_lr: 1e-5, warmup_epochs: 0.5, freeze: all},"
    " {epochs: 2, lr: 1e-3, min_lr: 1e-5, warmup_epochs: 0.5, freeze: none}]",
]

# Every setting that changes which images are in a batch, or their pixels.
AUGMENTED = [
    "augment.crop_scale=0.4",
    "augment.randaugment_ops=2",
    "augment.mixup_alpha=0.4",
    "augment.cutmix_alpha=1.0",
    "augment.mix_probability=0.8",
    "data.mirror=true",
    "data.train_fraction=0.7",
]


def tiny_training(
    shards: Path | None,
    work: Path,
    *overrides: str,
    should_stop: Callable[[], bool] = lambda: False,
    accelerator: Accelerator | None = None,
) -> Training:
    """A training of three epochs of a few steps on 32² images; `accelerator` overrides the recipe's precision.

    Without `shards` it is on the data that `overrides` name.
    """
    recipe = load_recipe("scratch", overrides=[*TINY, *overrides])
    accelerator = accelerator or start_accelerator(recipe.training.precision)
    data = find_data(recipe.data, shards)
    splits = data.open(recipe.training.seed, quiet=True)
    splits["train"], _ = with_teacher(recipe, splits, accelerator, work)
    model = build_model(recipe, data.label_space)
    return Training(recipe, model, splits["train"], splits["validation"], accelerator, work, None, should_stop)


def run_teacher(shards: Path, folder: Path, seed: int = 4) -> Path:
    """A model of 48² images in `folder` whose probabilities differ between images."""
    recipe = load_recipe("scratch", overrides=[*TINY, f"training.seed={seed}", "data.image_size=48"])
    source = find_shards(shards)
    model = build_model(recipe, source.label_space)
    model.preprocessing = preprocessing_of(source, recipe.data)
    with torch.no_grad():
        model.multilabel_head.weight *= 30
        model.binary_head.weight *= 30
    model.save_pretrained(folder)
    return folder


def true_from(call: int) -> Callable[[], bool]:
    """A function that answers False until it is called for the `call`-th time."""
    calls = itertools.count(1)
    return lambda: next(calls) >= call


def killed_at(call: int) -> Callable[[], bool]:
    """A function that answers False, and kills its process when it is called for the `call`-th time."""
    due = true_from(call)

    def killed() -> bool:
        if due():
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    return killed


def figures(history: History) -> list[dict[str, object]]:
    """The values of each epoch without its times."""
    clocked = {"train_seconds", "validation_seconds", "train_images_per_second", "waited_seconds"}
    return [record.model_dump(exclude=clocked) for record in history]


def weights(work: Path) -> dict[str, torch.Tensor]:
    """The best epoch's weights."""
    return load_file(work / BEST_FILE)


def assert_same_when_cut(session: Callable[[], Training], uninterrupted: Training) -> None:
    """Check that sessions, each of which is stopped and continued by the next, give what one did without a stop."""
    sessions = [session()]
    while not sessions[-1].run():
        assert len(sessions) < 20
        sessions.append(session())
    assert len(sessions) > 2
    assert figures(sessions[-1].history) == figures(uninterrupted.history)
    first, second = weights(sessions[-1].work), weights(uninterrupted.work)
    assert all(torch.equal(first[name], second[name]) for name in first)


if __name__ == "__main__":
    # JSON: lists of shards or null, a folder and overrides. Trainings one after another, since a start takes seconds.
    torch.set_num_threads(1)
    stops = killed_at(int(os.environ["KILLED_AT"])) if "KILLED_AT" in os.environ else lambda: False
    for given, folder, *changes in json.loads(sys.argv[1]):
        training = tiny_training(Path(given) if given else None, Path(folder), *changes, should_stop=stops)
        training.run()
    training.accelerator.end_training()
