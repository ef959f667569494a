"""From shards to the device: the first batch, and the supply of batches after it."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import torch

from chexvision.bench.alternatives import PngFiles, write_png_files
from chexvision.bench.report import Figure, Rate, Report, Row, rate, wait_for
from chexvision.config import DataConfig
from chexvision.data.augment import augment, draw
from chexvision.data.dataset import Split, open_split, splits_of
from chexvision.data.loader import Place, training_batches
from chexvision.data.source import find_shards
from chexvision.hub.reference import Reference
from chexvision.recipes import load_recipe
from chexvision.training.hardware import start_accelerator


def bench_input(data: Reference, device: torch.device, batch: int, size: int) -> Report:
    """Measure the way of images to the device, with and without augmentation, beside one PNG file an image.

    Args:
        data: shards.
        device: where batches go.
        batch: images a batch.
        size: side in pixels.
    """
    start_accelerator("auto")  # its settings are those of training
    recipe = load_recipe(
        "densenet", overrides=[f"data.image_size={size}", "data.placement=disk", "data.split=patient"]
    )
    with tempfile.TemporaryDirectory(prefix="chexvision-bench-") as scratch:
        split, first_batch = _first_batch(data, recipe.data, batch, Path(scratch), device)
        files, files_first_batch = _first_batch_of_files(data, size, batch, Path(scratch))
        supply = rate(lambda: _drain(split, batch, device))
        augmented = rate(lambda: _drain_augmented(split, batch, device))
        shown = files[: 4 * batch]
        file_supply = rate(lambda: _read(shown, size, batch, augmented=False))
        file_augmented = rate(lambda: _read(shown, size, batch, augmented=True))
    ours = _figures(first_batch, supply, augmented)
    theirs = _figures(files_first_batch, file_supply, file_augmented)
    # Seconds should be few and images/s many.
    ratios = {name: ours[name] / theirs[name] if "images/s" in name else theirs[name] / ours[name] for name in ours}
    settings: dict[str, Figure] = {"images": len(split), "batch": batch, "size": size, "device": str(device)}
    ways = {"decoded once": ours, "a PNG file an image": theirs, "times better": ratios}
    return Report("input", settings, [Row(way, dict(figures)) for way, figures in ways.items()])


def _figures(first_batch: float, supply: Rate, augmented: Rate) -> dict[str, float]:
    return {
        "first batch, s": first_batch,
        "supply, images/s": supply.per_second,
        "supply, CPU s/image": supply.cpu_seconds,
        "augmented, images/s": augmented.per_second,
        "augmented, CPU s/image": augmented.cpu_seconds,
    }


def _first_batch(
    data: Reference, config: DataConfig, batch: int, scratch: Path, device: torch.device
) -> tuple[Split, float]:
    """The training split decoded into an empty cache, and the seconds until its first batch was on the device."""
    before = os.environ.get("CHEXVISION_CACHE")
    os.environ["CHEXVISION_CACHE"] = str(scratch / "cache")
    try:
        began = time.perf_counter()
        source = find_shards(data)
        split = open_split(source, splits_of(source, config, seed=0), "train", config, quiet=True)
        next(training_batches(split, batch, batch, 0, 0, Place(device)))
        return split, time.perf_counter() - began
    finally:
        if before is None:
            del os.environ["CHEXVISION_CACHE"]
        else:
            os.environ["CHEXVISION_CACHE"] = before


def _first_batch_of_files(data: Reference, size: int, batch: int, scratch: Path) -> tuple[list[Path], float]:
    folder = scratch / "png"
    folder.mkdir()
    shards = find_shards(data).shards["train"]
    began = time.perf_counter()
    files = write_png_files(shards, folder)
    _read(files[:batch], size, batch, augmented=True)
    return files, time.perf_counter() - began


def _drain(split: Split, batch: int, device: torch.device) -> int:
    images = sum(len(part.images) for part in training_batches(split, batch, batch, 0, 0, Place(device)))
    wait_for(device)
    return images


def _drain_augmented(split: Split, batch: int, device: torch.device) -> int:
    config = load_recipe("densenet").augment
    images = 0
    for part in training_batches(split, batch, batch, 0, 0, Place(device)):
        augment(part.images, draw(config, part.step_size, part.step))
        images += len(part.images)
    wait_for(device)
    return images


def _read(files: list[Path], size: int, batch: int, augmented: bool) -> int:
    loader = torch.utils.data.DataLoader(PngFiles(files, size, augmented), batch_size=batch, shuffle=True)
    return sum(len(images) for images in loader)
