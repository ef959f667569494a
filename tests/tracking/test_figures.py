"""Which records a run makes, and that the values of a recipe that name files stay here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from chexvision.config.recipe import Recipe
from chexvision.recipes import load_recipe
from chexvision.tracking.figures import REFERENCES, RunFigures, numbers, without_paths
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


def test_the_datasets_of_a_mixture_have_names_of_their_own() -> None:
    datasets = {"nih": {"macro_auroc": 0.7, "images": 3}, "chexpert": {"macro_auroc": 0.8, "auroc": {"Mass": 0.9}}}
    assert numbers({"macro_auroc": 0.75, "mixture": {"datasets": datasets}}) == {
        "macro_auroc": 0.75,
        "mixture/datasets/nih/macro_auroc": 0.7,
        "mixture/datasets/nih/images": 3,
        "mixture/datasets/chexpert/macro_auroc": 0.8,
        "mixture/datasets/chexpert/auroc/Mass": 0.9,
    }


PINNED = f"chex/xrays@{'0' * 40}"


@pytest.mark.parametrize("value", ["/data/john", "./mine.csv", "~/weights", "C:\\films", "john/xrays", "split.csv"])
def test_names_of_files_and_folders_are_not_sent_wherever_they_are(value: str) -> None:
    tree = load_recipe("scratch").model_dump(mode="json")
    assert without_paths(tree) == tree
    changed = tree | {
        "model": tree["model"] | {"weights": value},
        "loss": tree["loss"] | {"teacher": value},
        "data": tree["data"] | {"dataset": value, "split": value, "datasets": [{"name": value, "split": value}]},
    }
    sent = without_paths(changed)
    assert value not in str(sent)
    local = "a local file"
    assert (sent["model"]["weights"], sent["loss"]["teacher"]) == (local, local)
    data = sent["data"]
    assert (data["dataset"], data["split"], data["datasets"]) == (local, local, [{"name": local, "split": local}])


def test_repositories_at_a_commit_and_words_of_recipes_are_sent() -> None:
    tree = load_recipe("densenet").model_dump(mode="json")
    tree["data"] |= {"dataset": PINNED, "split": "chexnet", "datasets": [{"name": PINNED, "split": "patient"}]}
    tree["model"]["weights"], tree["loss"]["teacher"] = f"{PINNED}:model.safetensors", PINNED
    assert without_paths(tree) == tree


def test_every_text_of_a_recipe_that_is_free_is_known_to_be_a_reference_or_none() -> None:
    """A key that is added for a file must not be sent."""
    schema = Recipe.model_json_schema()

    def free(of: dict[str, Any], at: str) -> Iterator[str]:
        of = schema["$defs"][of["$ref"].rpartition("/")[2]] if "$ref" in of else of
        if of.get("type") == "string" and "enum" not in of and "const" not in of:
            yield at
        for key, value in of.get("properties", {}).items():
            yield from free(value, f"{at}.{key}" if at else key)
        for part in [*of.get("anyOf", ()), *([of["items"]] if isinstance(of.get("items"), dict) else ())]:
            yield from free(part, at)

    assert {*free(schema, "")} - REFERENCES.keys() == {"name", "model.backbone"}
    assert {*free(schema, "")} >= REFERENCES.keys()
