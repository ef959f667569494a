"""Which records a run makes, and that the values of a recipe that name files stay here."""

from __future__ import annotations

from pathlib import Path

import pytest

from chexvision.recipes import load_recipe
from chexvision.tracking.figures import RunFigures, numbers, without_paths
from chexvision.tracking.tracker import Tracker


class Kept(Tracker):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.records: list[tuple[int, dict[str, float]]] = []

    def send(self, step: int, values: object) -> None:
        assert isinstance(values, dict)
        self.records.append((step, values))


def test_steps_count_over_all_epochs_and_none_comes_twice() -> None:
    tracker = Kept()
    figures = RunFigures(tracker, steps=4, batch_size=10)  # epochs of 35 images
    figures.epoch_begins(1)
    figures.loss(10, 20.0)
    figures.loss(30, 50.0)
    figures.loss(35, 55.0)  # the last step: the epoch's figures are of it
    figures.epoch(1, {"train_loss": 1.5})
    figures.epoch_begins(2)
    figures.loss(20, 10.0)
    figures.epoch(2, {"train_loss": 0.5})
    assert tracker.records == [
        (1, {"step_loss": 2.0}),
        (3, {"step_loss": 1.5}),
        (4, {"train_loss": 1.5}),
        (6, {"step_loss": 0.5}),
        (8, {"train_loss": 0.5}),
    ]


def test_numbers_of_a_record_alone_are_tracked() -> None:
    record = {"epoch": 3, "auroc": {"Hernia": 0.5, "Mass": None}, "weights": "averaged", "kept": True}
    assert numbers(record) == {"epoch": 3, "auroc/Hernia": 0.5}


@pytest.mark.parametrize("value", ["/data/john", "./mine.csv", "~/weights", "C:\\films", "my-weights.safetensors"])
def test_names_of_files_and_folders_are_not_sent(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-weights.safetensors").touch()
    tree = load_recipe("scratch").model_dump(mode="json")
    assert without_paths(tree) == tree
    changed = tree | {"model": tree["model"] | {"weights": value}, "datasets": [{"name": value}]}
    sent = without_paths(changed)
    assert value not in str(sent)
    assert sent["model"]["weights"] == sent["datasets"][0]["name"] == "a local file"
