"""Training computes the same whatever its tracker does, and a resumed run continues the tracked one."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from chexvision.bench.failing_sinks import FAILING
from chexvision.hub.reference import RepoRef
from chexvision.progress import Progress
from chexvision.provenance import Provenance
from chexvision.recipes import load_recipe
from chexvision.tracking import tracker
from chexvision.tracking.tracker import SINKS, SinkKind
from chexvision.training import run
from chexvision.training.loop import Training
from chexvision.training.reporter import RunReporter
from chexvision.training.training_session import TrainingProgress
from tests.training.runs import figures, tiny_training, true_from, weights

FEW = ("data.max_train_images=40", "optim.batch_size=8", "training.track=tensorboard")


@pytest.fixture(autouse=True)
def _every_step_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Progress, "due", property(lambda self: True))


def tracked(training: Training, run_id: str = "tiny-1") -> bool:
    """Train as a run does, with its reporter and tracker."""
    provenance = Provenance(run_id=run_id, source_revision="0", source_dirty=False)
    with run._tracker(training.recipe, None, training.work, provenance, training.accelerator) as sink:
        progress = TrainingProgress(training.work, run_id)
        training.reporter = RunReporter(progress, training.recipe, sink, training.train_split.images_per_epoch)
        with progress.session:
            return training.run()


@pytest.fixture(scope="module")
def plain(synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    training = tiny_training(synthetic_shards, tmp_path_factory.mktemp("plain"), *FEW[:2])
    assert training.run()
    return training


@pytest.mark.parametrize("way", FAILING)
def test_a_failing_tracker_changes_nothing_that_is_computed(
    way: str, plain: Training, synthetic_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = f"chexvision.bench.failing_sinks:{FAILING[way].__name__}"
    monkeypatch.setitem(SINKS, "tensorboard", SinkKind(target, "pytest", "pytest"))
    monkeypatch.setattr(tracker, "CLOSE_SECONDS", 0.5 if way == "hangs" else 60.0)
    training = tiny_training(synthetic_shards, tmp_path, *FEW)
    assert tracked(training)
    assert figures(training.history) == figures(plain.history)
    first, second = weights(training.work), weights(plain.work)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_resumed_run_has_each_step_of_the_tracked_run_once(
    plain: Training, synthetic_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut within an epoch, resumed with another sink than it was saved with, and once more on another machine."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr(tracker, "CLOSE_SECONDS", 120.0)
    assert not tracked(tiny_training(synthetic_shards, tmp_path, *FEW, should_stop=true_from(8)))
    (tmp_path / "tracking").rename(tmp_path / "first")
    resumed = tiny_training(synthetic_shards, tmp_path, *FEW[:2], should_stop=true_from(3))
    assert not resumed.run()  # without a sink
    resumed = tiny_training(synthetic_shards, tmp_path, *FEW)
    assert tracked(resumed)
    assert figures(resumed.history) == figures(plain.history)
    steps = resumed.steps
    for folder, epochs, losses in (
        ("first", [1], [step for step in range(1, 2 * steps) if step % steps and step < 10]),
        ("tracking", [1, 2, 3], None),
    ):
        events = EventAccumulator(str(tmp_path / folder))
        events.Reload()
        assert [one.step for one in events.Scalars("train_loss")] == [epoch * steps for epoch in epochs]
        found = [one.step for one in events.Scalars("step_loss")]
        assert found == sorted(set(found)) and not any(step % steps == 0 for step in found)
        if losses is not None:
            assert found == losses
    history = json.loads((tmp_path / "progress.json").read_text())["points"]
    assert [point["epoch"] for point in history] == [1, 2, 3]
    assert events.Scalars("macro_auroc")[-1].value == pytest.approx(plain.history[-1].macro_auroc)


def test_where_figures_are_sent_makes_no_other_run(synthetic_shards: Path, tmp_path: Path) -> None:
    seen = {
        tiny_training(synthetic_shards, tmp_path, *FEW[:2], f"training.track={sink}")._fingerprints
        for sink in ("none", *SINKS)
    }
    assert seen == {tiny_training(synthetic_shards, tmp_path, *FEW[:2])._fingerprints}


def test_the_tracked_configuration_names_the_data_that_the_run_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, Any]] = []
    monkeypatch.setattr(run, "Tracker", lambda sink, folder, of: made.append((sink, of["config"]["data"]["dataset"])))
    first, second = (RepoRef(f"chex/{name}", sha * 40) for name, sha in (("recipe", "0"), ("given", "1")))
    recipe = load_recipe("scratch", overrides=[f"data.dataset={first}", "training.track=wandb"])
    provenance = Provenance(run_id="a", source_revision="0", source_dirty=False)
    for is_main, data in ((True, None), (True, second), (True, tmp_path), (False, second)):
        process: Any = SimpleNamespace(is_main_process=is_main)
        run._tracker(recipe, data, tmp_path, provenance, process)
    assert made == [("wandb", str(first)), ("wandb", str(second)), ("wandb", "a local file"), ("none", str(second))]
