"""Views for test-time augmentation, and their mean."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from chexvision.config.test_time import Tta
from chexvision.inference.tta import views_of
from chexvision.models.network_engine import unchanged


@pytest.fixture
def images() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 255, (2, 64, 64), np.uint8))


def _chest() -> Tensor:
    """A shape with a left and a right side."""
    image = torch.zeros(1, 64, 64, dtype=torch.uint8)
    image[0, 10:54, 30:34] = 200
    image[0, 10:20, 34:50] = 200
    return image


def test_views_are_the_image_flipped_and_rotated() -> None:
    images = _chest()
    views = views_of("views", any_size=False)
    identity, flipped, left, right = (view(images).float() / 255 for view in views)
    assert torch.equal(identity, images / 255)
    assert torch.equal(flipped, identity.flip(-1))
    for turned in (left, right):
        assert turned.shape == identity.shape
        assert 0.01 < float((turned - identity).abs().mean()) < 1
    assert torch.allclose(left.flip(-1), views[3](images.flip(-1)) / 255, atol=1e-4)


def test_ten_crops_are_those_of_torchvision(images: Tensor) -> None:
    from torchvision.transforms import TenCrop

    crops = TenCrop(56)(images.unsqueeze(1).float())
    crops = [*crops[:5], *(crops[i] for i in (6, 5, 8, 7, 9))]  # the left crop of the flipped image is our right one
    expected = [F.interpolate(crop, 64, mode="bilinear", align_corners=False).squeeze(1) for crop in crops]
    found = [view(images) for view in views_of("ten-crop", any_size=True)]
    assert len(found) == len(expected) == 10
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)


def test_multi_scale_changes_the_input_of_networks_that_take_any_size(images: Tensor) -> None:
    found = [view(images).shape for view in views_of("multi-scale", any_size=True)]
    assert found == [(2, 64, 64), (2, 56, 56), (2, 72, 72)]


def test_multi_scale_zooms_for_networks_of_one_size() -> None:
    images = _chest()
    same, smaller, larger = (view(images).float() for view in views_of("multi-scale", any_size=False))
    assert same.shape == smaller.shape == larger.shape
    areas = [float(view.sum() / same.sum()) for view in (smaller, larger)]
    assert areas == pytest.approx([0.875**2, 1.125**2], rel=0.03)


@pytest.mark.parametrize("tta", get_args(Tta))
def test_a_constant_image_looks_the_same_in_every_view_but_for_black_borders(tta: Tta) -> None:
    images = torch.full((1, 64, 64), 100, dtype=torch.uint8)
    for view in views_of(tta, any_size=True):
        center = view(images).float()[:, 20:40, 20:40]
        torch.testing.assert_close(center, torch.full_like(center, 100), atol=1e-3, rtol=0)


@pytest.mark.parametrize("tta", get_args(Tta))
def test_the_unchanged_image_comes_first_where_it_is_a_view(tta: Tta) -> None:
    found = [view is unchanged for view in views_of(tta, any_size=False)]
    assert (found[0], found.count(True)) == ((True, 1) if tta != "ten-crop" else (False, 0))
