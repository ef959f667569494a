from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from chexvision.data import placement
from chexvision.data.dataset import Split
from chexvision.data.loader import Rank, in_order
from chexvision.data.placement import placed
from chexvision.errors import ChexError
from tests.data.test_loader import numbered

CPU = Rank(torch.device("cpu"))


@pytest.fixture
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Split:
    split = numbered(40)
    path = tmp_path_factory.mktemp("array") / "images.npy"
    np.save(path, split.images)
    return replace(split, images=np.load(path, mmap_mode="r"))


def test_placement_is_a_memory_map_on_disk_or_a_copy_in_memory(mapped: Split) -> None:
    assert isinstance(placed(mapped, "disk", CPU).images, np.memmap)
    for choice in ("memory", "device", "auto"):
        images = placed(mapped, choice, CPU).images
        assert not isinstance(images, np.memmap)
        assert np.array_equal(images, mapped.images)


def test_arrays_too_large_for_memory_stay_on_disk(mapped: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 40 * 4 * 4
    monkeypatch.setattr(placement, "_free_memory", lambda: 2 * size)
    assert isinstance(placed(mapped, "auto", CPU).images, np.memmap)
    monkeypatch.setattr(placement, "_free_memory", lambda: 3 * size)
    assert not isinstance(placed(mapped, "auto", CPU).images, np.memmap)
    # With several processes each would hold its own copy.
    assert isinstance(placed(mapped, "auto", Rank(CPU.device, 0, 2)).images, np.memmap)
    with pytest.raises(ChexError, match=r"train images need .* GB, but the memory has .* data\.placement=auto"):
        placed(mapped, "memory", Rank(CPU.device, 0, 4))


def test_images_in_a_tensor_are_gathered_from_the_tensor() -> None:
    split = numbered(12)
    on_device = replace(split, images=placement._on_device(split, CPU, rows=5))
    seen = [image for batch in in_order(on_device, 5, CPU) for image in batch.images[:, 0, 0].tolist()]
    assert seen == list(range(12))
