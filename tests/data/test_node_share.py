from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chexvision.config.recipe import Recipe
from chexvision.data import placement
from chexvision.data.dataset import Split
from chexvision.data.loader import MicroBatch, Rank, largest_pass, training_batches
from chexvision.data.mixture import find_data
from chexvision.data.node_share import Nodes
from chexvision.data.placement import used_here
from chexvision.data.source import find_shards
from chexvision.errors import ChexError, UsageError
from chexvision.files.hashes import Hashes
from chexvision.recipes import load_recipe
from chexvision.synthetic.synthesize import synthesize
from tests.data.test_loader import numbered

CPU = torch.device("cpu")


def held_by(split: Split, nodes: Nodes) -> Split:
    share = nodes.share([len(split)])
    return replace(split, images=np.asarray(split.images)[share.held], node_share=share)


@settings(max_examples=40)
@given(
    images=st.integers(4, 90),
    batch=st.integers(1, 40),
    micro=st.integers(1, 16),
    nodes=st.sampled_from([(0, 1), (0, 0, 1), (0, 1, 1, 2)]),
    mirror=st.booleans(),
)
def test_all_machines_together_cover_each_image_once_in_equal_steps(
    images: int, batch: int, micro: int, nodes: tuple[int, ...], mirror: bool
) -> None:
    split = numbered(images, mirror=mirror)
    alone = list(training_batches(split, batch, batch, 1, 0, Rank(CPU)))
    steps: dict[int, list[tuple[int, bool, int]]] = {}
    for rank in range(len(nodes)):
        here = held_by(split, Nodes(nodes, rank))
        process = Rank(CPU, rank, len(nodes))
        parts = list(training_batches(here, batch, micro, 1, 0, process))
        # Every process ends every step once, however many passes it has.
        assert [part.step for part in parts if part.last] == list(range(len(alone)))
        for part in parts:
            assert len(part.images) <= largest_pass(here, batch, micro, process)
            assert part.step_size == alone[part.step].step_size
            numbers = part.images[:, 0, 0].tolist()
            assert set(numbers) <= set(np.asarray(here.images)[:, 0, 0].tolist())
            assert part.targets[:, 0].tolist() == [float(number % 2) for number in numbers]
            steps.setdefault(part.step, []).extend(counted(part))
    assert [sorted(steps[step]) for step in range(len(alone))] == [sorted(counted(full)) for full in alone]


def counted(batch: MicroBatch) -> list[tuple[int, bool, int]]:
    """Number, side and position of the images that count."""
    used = batch.weights > 0
    numbers, mirrored = batch.images[used, 0, 0].tolist(), batch.mirrored[used].tolist()
    return list(zip(numbers, mirrored, batch.positions[used].tolist(), strict=True))


def test_machines_hold_as_many_images_per_process_and_few_shards() -> None:
    nodes = [Nodes((0, 0, 0, 1), rank) for rank in range(4)]
    assert [one.here for one in nodes] == [0, 0, 0, 1]
    split = numbered(100)
    assert [len(one.held(split.rows)) for one in nodes] == [75, 75, 75, 25]
    assert nodes[3].held(split.rows).filenames.tolist() == [str(number) for number in range(75, 100)]
    of_two = nodes[3].share([8, 4])  # each data set of a mixture is divided
    assert of_two.held.tolist() == [6, 7, 11]
    assert (of_two.process, of_two.processes) == (0, 1)


def recipe_of(shards: Path, *overrides: str) -> Recipe:
    small = ["data.image_size=32", f"data.dataset={shards}", *overrides]
    return load_recipe("scratch", overrides=small)


@pytest.mark.parametrize(("free", "divided"), [(10**9, False), (10**5, True)])
def test_auto_divides_the_images_where_some_machine_is_short_of_memory(
    synthetic_shards: Path, monkeypatch: pytest.MonkeyPatch, free: int, divided: bool
) -> None:
    monkeypatch.setattr(placement, "_free_memory", lambda: free)
    recipe, process = recipe_of(synthetic_shards, "data.placement=auto"), Rank(CPU, 0, 2, 1)
    used = used_here(recipe, None, Nodes((0, 1), 0), process, bool)
    assert (used is not None) is divided
    assert used_here(recipe, None, Nodes((0, 0), 0), process, bool) is None  # one machine
    elsewhere = used_here(recipe, None, Nodes((0, 1), 0), process, lambda short: True)
    assert elsewhere is not None


@pytest.mark.parametrize(
    ("setting", "reason"),
    [("augment.mixup_alpha=0.4", "mixup and CutMix mix"), ("loss.teacher=somewhere", "loss.teacher predicts")],
)
def test_settings_that_need_all_images_are_refused_or_kept_undivided(
    synthetic_shards: Path, setting: str, reason: str
) -> None:
    process, nodes = Rank(CPU, 0, 2, 1), Nodes((0, 1), 0)
    with pytest.raises(UsageError, match=f"data.placement=nodes: {reason}.*set data.placement=auto"):
        used_here(recipe_of(synthetic_shards, "data.placement=nodes", setting), None, nodes, process, bool)
    assert used_here(recipe_of(synthetic_shards, setting), None, nodes, process, lambda short: True) is None


def test_nothing_is_hashed_to_find_out_what_a_machine_uses(
    synthetic_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = list[Path]()

    def of_all(self: Hashes, paths: Iterable[Path], what: str) -> list[str]:
        hashed.extend(paths)
        return []

    monkeypatch.setattr(Hashes, "of_all", of_all)
    recipe = recipe_of(synthetic_shards, "data.placement=nodes")
    assert used_here(recipe, None, Nodes((0, 1), 0), Rank(CPU, 0, 2, 1), bool) is not None
    assert hashed == []


def test_shards_of_other_machines_may_be_missing_and_the_identity_stays(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    synthesize(folder, images=60, seed=1, size=64, encoding="png", shard_bytes=2**16, workers=1, overwrite=False)
    recipe = recipe_of(folder, "data.placement=nodes", "data.split=shards")
    nodes = Nodes((0, 1), 1)
    complete = find_shards(folder)
    used = used_here(recipe, None, nodes, Rank(CPU, 1, 2, 1), bool)
    assert used is not None
    (name,) = used.divisions
    needed = used.shards(name, recipe.data)
    paths = [path for of in complete.shards.values() for path in of]
    missing = [path for number, path in enumerate(paths) if number not in needed]
    assert missing and all(path.name.startswith("train-") for path in missing)
    for path in missing:
        path.unlink()
    found = find_data(recipe.data, None, used)
    assert found.identity == complete.identity
    train = found.open(recipe.training.seed, quiet=True, nodes=nodes)["train"]
    assert len(train) == len(used.divisions[name].rows["train"])
    assert abs(len(train.images) - len(train) / 2) <= 1

    kept = paths[min(needed)]
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    with pytest.raises(ChexError, match="has SHA-256"):
        find_data(recipe.data, None, used)
