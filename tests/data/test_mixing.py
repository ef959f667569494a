from __future__ import annotations

import itertools

import pytest
import torch
from scipy.stats import beta, kstest
from torchvision.transforms import v2

from chexvision.data.loader import Rank, training_batches
from chexvision.data.mixing import Mix, mixed, mixes, sample_mix
from chexvision.seeds import mix_seed
from tests.data.test_augment import only
from tests.data.test_loader import CPU, numbered

NAN = float("nan")


def batch(count: int = 6, size: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 1, size, size, generator=generator).expand(-1, 3, -1, -1)
    return images, (torch.rand(count, 5, generator=generator) < 0.4).float()


def with_predecessor(of: torch.Tensor) -> torch.Tensor:
    """A full effective batch as the loader returns it."""
    return torch.cat([of[-1:], of])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_mixup_equals_torchvisions(share: float) -> None:
    images, targets = batch()
    ours = mixed(with_predecessor(images), with_predecessor(targets), Mix(share))
    theirs = v2.MixUp(num_classes=5)
    params = {"lam": share, "labels": targets, "batch_size": len(images)}
    torch.testing.assert_close(ours[0], theirs.transform(images.contiguous(), params))
    # Of labels torchvision mixes single classes only: by hand.
    torch.testing.assert_close(ours[1], share * targets + (1 - share) * targets.roll(1, 0))


@pytest.mark.parametrize("center", [(0.5, 0.5), (0.02, 0.9), (0.99, 0.0)])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.999, 1.0])
def test_cutmix_fills_a_box_and_weights_targets_by_what_is_seen(share: float, center: tuple[float, float]) -> None:
    size = 20
    images, targets = batch(size=size)
    ours = mixed(with_predecessor(images), with_predecessor(targets), Mix(share, center))
    # As torchvision's CutMix computes the box from its random integers.
    y, x, half = int(center[0] * size), int(center[1] * size), int(0.5 * (1 - share) ** 0.5 * size)
    box = (max(x - half, 0), max(y - half, 0), min(x + half, size), min(y + half, size))
    own = 1 - (box[2] - box[0]) * (box[3] - box[1]) / size**2
    params = {"box": box, "lam_adjusted": own, "labels": targets, "batch_size": len(images)}
    torch.testing.assert_close(ours[0], v2.CutMix(num_classes=5).transform(images.contiguous(), params))
    torch.testing.assert_close(ours[1], own * targets + (1 - own) * targets.roll(1, 0))


def test_a_target_that_is_unknown_in_an_image_with_a_share_is_unknown() -> None:
    images = torch.rand(2, 3, 8, 8)
    targets = torch.tensor([[1.0, NAN, 0.0, NAN], [0.0, 0.0, NAN, NAN]])
    for share, center, expected in (
        (0.25, None, [0.75, NAN, NAN, NAN]),
        (1.0, None, [0.0, 0.0, NAN, NAN]),
        (0.0, None, [1.0, NAN, 0.0, NAN]),
        (0.999, (0.5, 0.5), [0.0, 0.0, NAN, NAN]),  # a box of no pixels
        (0.0, (0.5, 0.5), [1.0, NAN, 0.0, NAN]),  # the entire image
    ):
        _, result = mixed(images, targets, Mix(share, center))
        torch.testing.assert_close(result, torch.tensor([expected]), equal_nan=True)


def test_without_a_mix_the_predecessor_is_dropped() -> None:
    images, targets = batch()
    for ours, given in zip(mixed(images, targets, None), (images, targets), strict=True):
        assert torch.equal(ours, given[1:])


def test_shares_follow_the_beta_distributions_and_each_step_is_one_of_the_two() -> None:
    config = only(mixup_alpha=0.4, cutmix_alpha=1.0, mix_probability=0.8)
    steps = [sample_mix(config, mix_seed(7, 0, step)) for step in range(3000)]
    assert steps == [sample_mix(config, mix_seed(7, 0, step)) for step in range(3000)]
    taken = [mix for mix in steps if mix is not None]
    cut, blended = ([mix.share for mix in taken if (mix.center is None) is none] for none in (False, True))
    assert len(taken) / len(steps) == pytest.approx(0.8, abs=0.03)
    assert len(cut) / len(taken) == pytest.approx(0.5, abs=0.03)
    assert kstest(blended, beta(0.4, 0.4).cdf).statistic < 0.05
    assert kstest(cut, "uniform").statistic < 0.05
    for axis in (0, 1):
        assert kstest([mix.center[axis] for mix in taken if mix.center], "uniform").statistic < 0.05


def test_a_recipe_with_one_of_them_uses_it_in_every_step() -> None:
    for key, cuts in (("mixup_alpha", False), ("cutmix_alpha", True)):
        made = [sample_mix(only(**{key: 0.5}), seed) for seed in range(50)]
        assert all(mix is not None and (mix.center is not None) is cuts for mix in made)
    assert not mixes(only()) and sample_mix(only(), 1) is None
    assert not mixes(only(mixup_alpha=1.0, mix_probability=0.0))


@pytest.mark.parametrize("mirror", [False, True])
def test_partners_do_not_depend_on_micro_batches_and_processes(mirror: bool) -> None:
    """Each image with its predecessor in the step, whatever the division."""
    split = numbered(21, mirror=mirror)

    def pairs(micro: int, world: int) -> dict[int, set[tuple[tuple[int, bool], tuple[int, bool]]]]:
        found: dict[int, set[tuple[tuple[int, bool], tuple[int, bool]]]] = {}
        for rank in range(world):
            for part in training_batches(split, 8, micro, 1, 0, Rank(CPU, rank, world), predecessors=True):
                assert part.has_predecessor
                assert len(part.images) == len(part.targets) == len(part.positions) == len(part.weights) + 1
                keys = list(zip(part.images[:, 0, 0].tolist(), part.mirrored.tolist(), strict=True))
                kept = (pair for pair, weight in zip(itertools.pairwise(keys), part.weights, strict=True) if weight)
                found.setdefault(part.step, set()).update(kept)
        return found

    alone = pairs(8, 1)
    for part in training_batches(split, 8, 8, 1, 0, Rank(CPU)):
        keys = list(zip(part.images[:, 0, 0].tolist(), part.mirrored.tolist(), strict=True))[: part.step_size]
        assert alone[part.step] == set(zip([keys[-1], *keys], keys, strict=False))
    assert pairs(3, 1) == pairs(2, 2) == pairs(5, 3) == alone
