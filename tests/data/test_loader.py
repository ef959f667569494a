from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chexvision.data.dataset import Split
from chexvision.data.loader import Rank, images_per_pass, in_order, steps_per_epoch, training_batches
from chexvision.data.rows import Rows

CPU = torch.device("cpu")


def numbered(count: int, *, mirror: bool = False) -> Split:
    """Images that hold their own number."""
    images = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None], (count, 4, 4)).copy()
    findings = np.zeros((count, 14), np.float32)
    findings[:, 0] = np.arange(count) % 2
    number = np.arange(count)
    rows = Rows(number.astype(str), findings, number, number.astype(np.int32), number)
    return Split("train", images, rows, mirror=mirror)


sizes = st.integers(1, 90)


@settings(max_examples=40)
@given(
    images=sizes, batch=st.integers(1, 40), micro=st.integers(1, 16), world=st.integers(1, 3), epoch=st.integers(0, 3)
)
def test_all_ranks_together_cover_each_image_once_in_equal_steps(
    images: int, batch: int, micro: int, world: int, epoch: int
) -> None:
    split = numbered(images)
    alone = list(training_batches(split, batch, batch, 1, epoch, Rank(CPU)))
    steps: dict[int, list[int]] = {}
    for rank in range(world):
        parts = list(training_batches(split, batch, micro, 1, epoch, Rank(CPU, rank, world)))
        # Every process ends every step, or the others would wait for it for ever.
        assert [part.step for part in parts if part.last] == list(range(steps_per_epoch(images, batch)))
        for part in parts:
            assert len(part.images) <= micro
            counted = part.images[:, 0, 0][part.weights > 0].tolist()
            steps.setdefault(part.step, []).extend(counted)
            assert part.step_size == alone[part.step].step_size
            assert part.targets[:, 0].tolist() == [float(n % 2) for n in part.images[:, 0, 0].tolist()]
            assert part.targets[:, 14].tolist() == part.targets[:, 0].tolist()
        if rank == 0:
            largest = [max(len(part.images) for part in parts if part.step == step) for step in range(len(alone))]
            assert (largest[0], largest[-1]) == images_per_pass(images, batch, micro, world)
    for step, full in enumerate(alone):
        assert sorted(steps[step]) == sorted(full.images[:, 0, 0][full.weights > 0].tolist())
    assert sorted(n for numbers in steps.values() for n in numbers) == list(range(images))


def test_positions_index_the_effective_batch() -> None:
    split = numbered(20)
    full = next(iter(training_batches(split, 12, 12, 1, 0, Rank(CPU)))).images[:, 0, 0]
    for rank in range(2):
        for part in training_batches(split, 12, 4, 1, 0, Rank(CPU, rank, 2)):
            if part.step == 0:
                assert torch.equal(part.images[:, 0, 0], full[part.positions])


def test_an_interrupted_epoch_resumes_at_its_step() -> None:
    split = numbered(50)
    full = [b.images[:, 0, 0].tolist() for b in training_batches(split, 8, 8, 1, 2, Rank(CPU))]
    rest = [b.images[:, 0, 0].tolist() for b in training_batches(split, 8, 8, 1, 2, Rank(CPU), first_step=4)]
    assert rest == full[4:]


def test_order_differs_between_epochs_and_seeds() -> None:
    split = numbered(50)
    orders = {
        tuple(next(iter(training_batches(split, 50, 50, seed, epoch, Rank(CPU)))).images[:, 0, 0].tolist())
        for seed, epoch in ((1, 0), (1, 1), (2, 0))
    }
    assert len(orders) == 3


def test_a_mirrored_split_has_each_image_twice_per_epoch_in_one_order() -> None:
    split = numbered(25, mirror=True)
    assert split.images_per_epoch == 50
    parts = list(training_batches(split, 8, 3, 1, 0, Rank(CPU)))
    assert parts[-1].step == steps_per_epoch(50, 8) - 1
    seen: list[tuple[int, bool]] = []
    for part in parts:
        counted = part.weights > 0
        seen += zip(part.images[counted, 0, 0].tolist(), part.mirrored[counted].tolist(), strict=True)
    assert sorted(seen) == [(number, mirrored) for number in range(25) for mirrored in (False, True)]
    assert len({mirrored for _, mirrored in seen[:8]}) == 2  # shuffled together
    assert not any(part.mirrored.any() for part in in_order(split, 8, Rank(CPU)))


@settings(max_examples=20)
@given(images=sizes, batch=st.integers(1, 20), world=st.integers(1, 4))
def test_validation_covers_each_image_once_in_order(images: int, batch: int, world: int) -> None:
    seen: list[int] = []
    for rank in range(world):
        for part in in_order(numbered(images), batch, Rank(CPU, rank, world)):
            seen.extend(part.images[:, 0, 0].tolist())
    assert seen == list(range(images))


def test_leaving_an_epoch_early_stops_the_prefetch_thread() -> None:
    batches = training_batches(numbered(90), 2, 2, 1, 0, Rank(CPU))
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "chexvision-gather"]


def test_an_error_in_the_prefetch_thread_reaches_the_loop() -> None:
    split = numbered(10)
    flat = Split("train", np.asarray(split.images).reshape(10, 16), split.rows)
    with pytest.raises(ValueError, match="unpack"):
        list(in_order(flat, 4, Rank(CPU)))
