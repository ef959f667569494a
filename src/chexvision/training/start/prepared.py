"""The data of a run, decoded, and its untrained model."""

from __future__ import annotations

from dataclasses import dataclass

from accelerate import Accelerator

from chexvision.config.recipe import Recipe
from chexvision.data.dataset import Split
from chexvision.data.mixture import RunData, find_data
from chexvision.data.placement import placed, used_here
from chexvision.hub.reference import Reference
from chexvision.models.classifier import CheXVision
from chexvision.models.initial_weights import fetch_weights
from chexvision.models.untrained import build_model
from chexvision.training.hardware import rank_of
from chexvision.training.processes import nodes_of, ranks_where


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is trained, and on what.

    Args:
        data: the data sets.
        splits: theirs, decoded; "test" only if it has images.
        model: untrained.
    """

    data: RunData
    splits: dict[str, Split]
    model: CheXVision


def prepare(recipe: Recipe, data: Reference | None, accelerator: Accelerator) -> Prepared:
    """Fetch and decode the data, and build the model; the first process of each machine fetches.

    Args:
        recipe: of the run.
        data: a data set in place of the recipe's.
        accelerator: of this process; all processes call this.

    Raises:
        UsageError: the data is not pinned, empty, or not what the recipe needs.
        ChexError: a download failed, or the images cannot be read or do not fit where they are to be.
    """
    rank = rank_of(accelerator)
    with accelerator.local_main_process_first():
        weights = fetch_weights(recipe.model)  # before the data: a failed download should not cost an hour
    used = used_here(recipe, data, nodes_of(rank), rank, lambda short: bool(ranks_where(rank, short)))
    with accelerator.local_main_process_first():
        found = find_data(recipe.data, data, used)
        model = build_model(recipe, found.label_space, weights)
        model.preprocessing = found.preprocessing(model.preprocessing)
        nodes = used.nodes if used is not None else None
        splits = found.open(recipe.training.seed, not accelerator.is_main_process, nodes)
    for name in ("train", "validation"):  # the test split is read once, at the end
        splits[name] = placed(splits[name], recipe.data.placement, rank)
    return Prepared(found, splits, model)
