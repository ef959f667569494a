"""Several data sets as one: which images an epoch takes, names, patients and labels."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chexvision.data.dataset import Part, Split, targets_of
from chexvision.data.epoch_order import epoch_order, images_per_part
from chexvision.data.joined_images import JoinedImages
from chexvision.data.joined_rows import sampled_rows
from chexvision.data.loader import Rank, in_order, training_batches
from chexvision.data.mixture import RunData, check_names, check_run_data, find_data
from chexvision.data.placement import placed
from chexvision.errors import UsageError
from chexvision.labels import NIH, OUTSIDE, LabelSpace, union
from chexvision.recipes import load_recipe
from chexvision.training.loss import pos_weight
from tests.data.mixtures import OTHER, mixed_data, write_other_shards
from tests.data.test_loader import numbered
from tests.label_sets import write_small_shards

CPU = Rank(torch.device("cpu"))
counts = st.lists(st.integers(1, 400), min_size=2, max_size=5)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_other_shards(tmp_path_factory.mktemp("other") / "other")


@pytest.fixture(scope="module")
def data(synthetic_shards: Path, other: Path) -> RunData:
    overrides = mixed_data(synthetic_shards, other, image_size=32, temperature=2)
    return find_data(load_recipe("scratch", overrides=overrides).data)


def mixed(images: list[int], per_epoch: list[int], *, mirror: bool = False) -> Split:
    """Numbered images of several data sets."""
    split = numbered(sum(images), mirror=mirror)
    ends = np.cumsum(images)
    parts = [
        Part(f"set{i}", None, split.rows.take(np.arange(end - count, end)), int(end - count), taken)  # type: ignore[arg-type]
        for i, (count, end, taken) in enumerate(zip(images, ends, per_epoch, strict=True))
    ]
    return replace(split, parts=tuple(parts))


@given(images=counts)
def test_equal_weights_at_temperature_1_take_every_image_once(images: list[int]) -> None:
    assert images_per_part(images, [1.0] * len(images), 1.0) == images
    assert images_per_part(images, [0.3] * len(images), 1.0) == images


@given(images=counts, temperature=st.floats(0.2, 90), seed=st.integers(0, 99))
def test_an_epoch_is_as_long_as_all_data_sets_together(images: list[int], temperature: float, seed: int) -> None:
    weights = np.random.default_rng(seed).uniform(0.1, 5, len(images))
    taken = images_per_part(images, weights.tolist(), temperature)
    assert sum(taken) == sum(images)
    shares = weights * np.array(images) ** (1 / temperature)
    assert np.abs(np.array(taken) - sum(images) * shares / shares.sum()).max() < 1


def test_a_high_temperature_takes_all_data_sets_equally_often() -> None:
    assert images_per_part([1000, 10], [1, 1], 100) == [517, 493]
    assert images_per_part([900, 100], [1, 1], 2) == [750, 250]
    assert images_per_part([500, 500], [3, 1], 1) == [750, 250]


@settings(max_examples=40)
@given(images=counts, temperature=st.floats(0.5, 20), mirror=st.booleans(), seed=st.integers(0, 5))
def test_an_epoch_takes_no_image_more_often_than_needed(
    images: list[int], temperature: float, mirror: bool, seed: int
) -> None:
    per_epoch = images_per_part(images, [1.0] * len(images), temperature)
    split = mixed(images, per_epoch, mirror=mirror)
    order = epoch_order(split, seed, 3)
    assert len(order) == split.images_per_epoch
    times = np.bincount(order, minlength=len(split) * (2 if mirror else 1))
    for part, taken in zip(split.parts, per_epoch, strict=True):
        of = times[part.begin : part.end]
        if mirror:
            mirrored = times[len(split) + part.begin : len(split) + part.end]
            of = np.concatenate([of, mirrored])
        assert of.sum() == taken * (2 if mirror else 1)
        assert of.max() <= -(-taken // len(part.rows)) and of.min() >= taken // len(part.rows)


def test_the_order_follows_from_seed_and_epoch() -> None:
    split = mixed([40, 10], [30, 20])
    first = epoch_order(split, 1, 0)
    assert np.array_equal(first, epoch_order(split, 1, 0))
    assert not np.array_equal(first, epoch_order(split, 1, 1))
    assert not np.array_equal(first, epoch_order(split, 2, 0))


def test_no_image_is_left_out_again_before_all_others_were() -> None:
    split = mixed([40, 10], [30, 20])
    times = np.zeros(50, int)
    for epoch in range(4):
        times += np.bincount(epoch_order(split, 5, epoch), minlength=50)
        assert np.ptp(times[:40]) <= 1
    assert (times[:40] == 3).all() and (times[40:] == 8).all()


def test_one_pass_over_a_mixture_is_the_permutation_of_one_data_set() -> None:
    one = numbered(50)
    assert np.array_equal(epoch_order(mixed([40, 10], [40, 10]), 3, 2), epoch_order(one, 3, 2))
    expected = np.random.default_rng([3, 2]).permutation(50)
    assert np.array_equal(epoch_order(one, 3, 2), expected)


def test_a_run_that_continues_within_an_epoch_gets_the_same_batches() -> None:
    split = mixed([40, 10], [25, 25])
    whole = [batch.images[:, 0, 0].tolist() for batch in training_batches(split, 8, 8, 1, 2, CPU)]
    rest = [batch.images[:, 0, 0].tolist() for batch in training_batches(split, 8, 8, 1, 2, CPU, 3)]
    assert whole[3:] == rest


def test_joined_arrays_are_read_like_one() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 255, (count, 3, 4), dtype=np.uint8) for count in (5, 1, 7)]
    joined, whole = JoinedImages(arrays), np.concatenate(arrays)
    assert joined.shape == whole.shape and len(joined) == 13
    index = rng.integers(0, 13, 20)
    assert np.array_equal(joined.take(index), whole[index])
    assert np.array_equal(joined[3:9], whole[3:9]) and np.array_equal(joined[6], whole[6])
    assert joined[2:2].shape == (0, 3, 4)
    assert np.array_equal(np.asarray(joined), whole)


def test_the_loader_reads_all_placements_of_a_mixture_alike(data: RunData) -> None:
    split = data.open(0, quiet=True)["train"]
    assert isinstance(split.images, JoinedImages)
    found = [
        torch.cat([batch.images for batch in in_order(placed(split, placement, CPU), 16, CPU)])
        for placement in ("disk", "memory")
    ]
    assert torch.equal(found[0], found[1]) and len(found[0]) == len(split)


def test_images_of_a_mixture_are_those_of_its_data_sets(data: RunData, other: Path) -> None:
    split = data.open(0, quiet=True)["validation"]
    config = load_recipe("scratch", overrides=["data.split=shards", "data.image_size=32"]).data
    alone = find_data(config, other).open(0, quiet=True)["validation"]
    assert split.parts[1].begin == len(split) - len(alone)
    assert np.array_equal(np.asarray(split.images)[-len(alone) :], np.asarray(alone.images))
    assert data.preprocessing().shard_size == 32  # the smaller size for all


def test_patients_and_names_of_different_data_sets_differ(data: RunData) -> None:
    splits = data.open(0, quiet=True)
    names = np.concatenate([split.rows.filenames for split in splits.values()])
    assert len(np.unique(names)) == len(names) == 160 + 240
    patients = {
        (name, part.name): set(split.rows.patients[part.begin : part.end].tolist())
        for name, split in splits.items()
        for part in split.parts
    }
    everyone = [patient for of in patients.values() for patient in of]
    assert len(everyone) == len(set(everyone))
    own = [len(np.unique(part.rows.patients)) for split in splits.values() for part in split.parts]
    assert [len(of) for of in patients.values()] == own


def test_findings_that_a_data_set_does_not_label_are_unknown(data: RunData) -> None:
    split = data.open(0, quiet=True)["train"]
    space = split.rows.label_space
    assert space.findings == (*NIH.findings, "Fracture")
    first, second = (split.targets[part.begin : part.end] for part in split.parts)
    fracture = space.findings.index("Fracture")
    assert np.isnan(first[:, fracture]).all() and not np.isnan(first[:, :fracture]).any()
    unlabeled = [i for i, name in enumerate(space.findings) if name not in OTHER.findings]
    assert np.isnan(second[:, unlabeled]).all()
    for part, targets in zip(split.parts, (first, second), strict=True):
        own = targets_of(part.rows.findings, "ignore")
        columns = [space.outputs.index(name) for name in part.rows.label_space.outputs]
        assert np.array_equal(targets[:, columns], own, equal_nan=True)
    assert {0.0, 1.0} <= set(first[:, -1].tolist())  # an image without findings is normal, whatever others label
    assert np.isnan(second[:, -1]).any() and (second[:, -1] == 0).any()


def test_the_binary_target_is_about_the_own_label_set() -> None:
    findings = np.array([[0, 0, OUTSIDE], [1, 0, OUTSIDE], [0, -1, OUTSIDE], [0, np.nan, OUTSIDE]], np.float32)
    targets = targets_of(findings, "ignore")
    assert np.array_equal(targets[:, -1], [0, 1, np.nan, np.nan], equal_nan=True)
    assert np.isnan(targets[:, 2]).all()
    assert targets_of(findings, "zeros")[2, -1] == 0


def test_the_weight_of_positives_follows_from_what_an_epoch_takes(data: RunData) -> None:
    split = data.open(0, quiet=True)["train"]
    taken = split.taken_per_epoch
    assert taken is not None and taken.sum() == pytest.approx(len(split))
    targets = split.targets[:, :-1]
    doubled = np.concatenate([targets, targets[split.parts[0].begin : split.parts[0].end]])
    weights = np.where(np.arange(len(split)) < split.parts[0].end, 2.0, 1.0)
    assert torch.allclose(pos_weight(targets, 1, 50, weights), pos_weight(doubled, 1, 50))
    assert not torch.allclose(pos_weight(targets, 1, 50, weights), pos_weight(targets, 1, 50))
    assert numbered(5).taken_per_epoch is None


def test_labels_read_without_pixels_are_those_of_the_decoded_splits(data: RunData) -> None:
    rows = sampled_rows(data.config, check_run_data(data.config), 0)
    for name, split in data.open(0, quiet=True).items():
        assert np.array_equal(rows[name].filenames, split.rows.filenames)
        assert np.array_equal(rows[name].patients, split.rows.patients)
        assert np.array_equal(rows[name].findings, split.rows.findings, equal_nan=True)


def test_the_record_counts_all_data_sets(data: RunData) -> None:
    record = data.record
    assert (record.rule, record.described) == ("mixture", "the split of each data set")
    assert sum(part.images for part in record.parts.values()) == 400
    assert data.name == "shards + other" and len(data.identity) == 64
    assert data.identity not in [one.source.identity for one in data.datasets]
    first, second = data.trained_on(data.open(0, quiet=True)["train"])
    assert (first.name, second.findings, second.split.rule) == ("shards", OTHER.findings, "shards")
    assert first.images_per_epoch + second.images_per_epoch == first.train_images + second.train_images
    assert first.images_per_epoch < first.train_images + second.train_images


def test_data_sets_of_one_folder_name_have_different_names(synthetic_shards: Path, tmp_path: Path) -> None:
    (tmp_path / "twin").mkdir()
    twin = write_other_shards(tmp_path / "twin" / synthetic_shards.name)
    found = check_run_data(load_recipe("scratch", overrides=mixed_data(synthetic_shards, twin, image_size=32)).data)
    assert [name.split("-")[-1] for name in found] == ["shards", "shards"] and "twin-shards" in found


@pytest.mark.parametrize("names", [("{a}", "{a}/../shards"), ("user/nih@" + "0" * 40, "user/nih@" + "1" * 40)])
def test_one_data_set_in_two_words_is_refused(synthetic_shards: Path, names: tuple[str, str]) -> None:
    """Its images would be trained on under one division, and measured under the other."""
    datasets = json.dumps([{"name": name.format(a=synthetic_shards)} for name in names])
    with pytest.raises(UsageError, match=r"data\.datasets: .* is named twice"):
        check_names(load_recipe("scratch", overrides=[f"data.datasets={datasets}"]).data)


def test_a_copy_of_a_data_set_is_refused(other: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(other, tmp_path / "copy")
    with pytest.raises(UsageError, match=r"data\.datasets: copy has the same shards as other"):
        find_data(load_recipe("scratch", overrides=mixed_data(other, copy, image_size=32)).data)


def test_an_image_size_above_one_of_the_data_sets_is_refused(synthetic_shards: Path, other: Path) -> None:
    config = load_recipe("scratch", overrides=mixed_data(synthetic_shards, other, image_size=48)).data
    with pytest.raises(UsageError, match=r"data\.image_size 48 is above the 32 pixels of the images of .*other"):
        check_run_data(config)


def test_label_sets_that_contradict_each_other_are_refused(synthetic_shards: Path, tmp_path: Path) -> None:
    write_small_shards(tmp_path / "odd", LabelSpace(findings=("effusion", "Fracture"), normal="No Finding"))
    config = load_recipe("scratch", overrides=mixed_data(synthetic_shards, tmp_path / "odd", image_size=32)).data
    with pytest.raises(UsageError) as caught:
        check_run_data(config)
    assert str(caught.value) == (
        "the label sets of shards, odd cannot be one: 'effusion' is named twice, or is the name of the normal label "
        "or the binary output; rename a finding with a label map"
    )


def test_a_data_set_of_which_an_epoch_would_take_no_image_is_refused(synthetic_shards: Path, other: Path) -> None:
    data = find_data(load_recipe("scratch", overrides=mixed_data(synthetic_shards, other, image_size=32)).data)
    light = replace(data, datasets=(data.datasets[0], replace(data.datasets[1], weight=1e-6)))
    with pytest.raises(UsageError, match=r"no image of other would be in an epoch of 237; raise its weight"):
        light.open(0, quiet=True)


def test_the_union_has_the_first_label_set_first() -> None:
    small = LabelSpace(findings=("Fracture", "Mass"))
    assert union([small, NIH]).findings[:3] == ("Fracture", "Mass", "Atelectasis")
    assert union([NIH, small]).findings == (*NIH.findings, "Fracture")
