"""From shards to the device: the first batch, the first epoch, and the supply of batches after them."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice, repeat
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from chexvision.bench.alternatives import PngFiles, write_png_files
from chexvision.bench.bench_report import Figure, Rate, Report, Row, rate, wait_for
from chexvision.config.data_config import AugmentConfig, DataConfig
from chexvision.data.augment import augment, sample
from chexvision.data.dataset import Split, open_split, splits_of
from chexvision.data.loader import Rank, training_batches
from chexvision.data.source import ShardSource, find_shards
from chexvision.hub.reference import Reference
from chexvision.images.radiograph import PIXEL_MEAN, PIXEL_STD
from chexvision.parallel import usable_cores
from chexvision.recipes import load_recipe
from chexvision.training.hardware import start_accelerator


def bench_input(data: Reference, device: torch.device, batch: int, size: int) -> Report:
    """Measure the supply of images to the device, compared with files that are decoded at each access.

    Both use all cores of this process: decode-once as threads, the files as DataLoader workers. Both decode, resize
    and equalize in the same way; without augmentation both supply uint8.

    Args:
        data: shards.
        device: of the batches.
        batch: images per batch.
        size: side in pixels.
    """
    start_accelerator("auto")  # with the settings of training
    recipe = load_recipe(
        "densenet", overrides=[f"data.image_size={size}", "data.placement=disk", "data.split=patient"]
    )
    workers = usable_cores()
    with tempfile.TemporaryDirectory(prefix="chexvision-bench-") as scratch:
        source = find_shards(data)
        split, first_batch = _first_batch(source, recipe.data, batch, Path(scratch), device)
        supply = rate(lambda: _drain(split, batch, device))
        augmented = rate(lambda: _drain(split, batch, device, recipe.augment))
        ours = _figures(len(split), batch, first_batch, supply, augmented)
        files = write_png_files(source, split.rows, Path(scratch))
        plain, changed = (_loader(files, recipe.data, batch, workers, augmented=of) for of in (False, True))
        first_batch = _first_batch_of_files(plain, device)
        # Any number of epochs, with persistent workers.
        epochs = (chain.from_iterable(repeat(loader)) for loader in (plain, changed))
        supply, augmented = (rate(partial(_read, batches, device)) for batches in epochs)
        theirs = _figures(len(split), batch, first_batch, supply, augmented)
    # Seconds: lower is better; images/s: higher is better.
    ratios = {name: ours[name] / theirs[name] if "images/s" in name else theirs[name] / ours[name] for name in ours}
    settings: dict[str, Figure] = {
        "images": len(split),
        "batch": batch,
        "size": size,
        "device": str(device),
        "cores, and workers of the files": workers,
    }
    ways = {"decoded once": ours, "decoded at each access": theirs, "times better": ratios}
    return Report("input", settings, [Row(way, dict(figures)) for way, figures in ways.items()])


def _figures(images: int, batch: int, first_batch: float, supply: Rate, augmented: Rate) -> dict[str, float]:
    return {
        "first batch, s": first_batch,
        "first epoch, s": first_batch + max(0, images - batch) / supply.per_second,
        "supply, images/s": supply.per_second,
        "supply, CPU s/image": supply.cpu_seconds,
        "augmented, images/s": augmented.per_second,
        "augmented, CPU s/image": augmented.cpu_seconds,
    }


def _first_batch(
    source: ShardSource, config: DataConfig, batch: int, scratch: Path, device: torch.device
) -> tuple[Split, float]:
    """The training split decoded with an empty cache, and the seconds until its first batch is on the device."""
    with _cache_at(scratch / "cache"):
        began = time.perf_counter()
        split = open_split(source, splits_of(source, config, seed=0), "train", config, quiet=True)
        next(training_batches(split, batch, batch, 0, 0, Rank(device)))
        wait_for(device)
        return split, time.perf_counter() - began


@contextmanager
def _cache_at(folder: Path) -> Iterator[None]:
    before = os.environ.get("CHEXVISION_CACHE")
    os.environ["CHEXVISION_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["CHEXVISION_CACHE"]
        else:
            os.environ["CHEXVISION_CACHE"] = before


def _drain(split: Split, batch: int, device: torch.device, augmentation: AugmentConfig | None = None) -> int:
    images = 0
    for part in training_batches(split, batch, batch, 0, 0, Rank(device)):
        if augmentation is not None:
            augment(part.images, sample(augmentation, len(part.images), part.step), PIXEL_MEAN, PIXEL_STD)
        images += len(part.images)
    wait_for(device)
    return images


def _loader(
    files: list[Path], config: DataConfig, batch: int, workers: int, *, augmented: bool
) -> DataLoader[torch.Tensor]:
    return DataLoader(
        PngFiles(files, config.image_size, config.clahe, augmented),
        batch_size=batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=True,
        pin_memory=torch.cuda.is_available(),
    )


def _first_batch_of_files(loader: DataLoader[torch.Tensor], device: torch.device) -> float:
    """Seconds until the first batch is on the device, including the start of the workers."""
    began = time.perf_counter()
    next(iter(loader)).to(device)
    wait_for(device)
    return time.perf_counter() - began


def _read(batches: Iterator[torch.Tensor], device: torch.device) -> int:
    images = sum(len(batch.to(device, non_blocking=True)) for batch in islice(batches, 4))
    wait_for(device)
    return images
