"""Training and evaluation steps."""

from __future__ import annotations

import gc
import itertools
import statistics
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from chexvision.bench.alternatives import usual_steps
from chexvision.bench.bench_report import Figure, Report, Row, rate, wait_for
from chexvision.config.recipe import Recipe
from chexvision.data.augment import augment, sample
from chexvision.data.dataset import Split, open_split, splits_of
from chexvision.data.mixing import mixed, mixes, sample_mix
from chexvision.data.source import find_shards
from chexvision.hub.reference import Reference
from chexvision.images.radiograph import PIXEL_MEAN, PIXEL_STD
from chexvision.inference.predict_split import predict_split
from chexvision.models.untrained import build_model
from chexvision.recipes import load_recipe
from chexvision.training.hardware import (
    forget_peak_memory,
    peak_memory_mb,
    release_freed_memory,
    start_accelerator,
)
from chexvision.training.loop import Training

_STEPS = 6
_STATUS = Path("/proc/self/status")


def bench_step(
    data: Reference, model: str, batch: int, size: int, accumulate: int, *, compile: bool = False
) -> Report:
    """Measure optimization steps of the training loop, compared with PyTorch's defaults without augmentation.

    Both compute in the same precision, over micro-batches of the same size, on all cores this process may use.

    Args:
        data: shards.
        model: a recipe.
        batch: the micro-batch.
        size: side in pixels.
        accumulate: micro-batches per step.
        compile: whether ours goes through torch.compile.
    """
    images = _STEPS * batch * accumulate
    recipe = step_recipe(model, size, batch, batch * accumulate, images, compile=compile)
    # PyTorch's defaults first, with the system's allocator settings: those of training cannot be undone.
    accelerator = start_accelerator(recipe.training.precision, keep_freed_memory=False)
    splits = opened_splits(data, recipe)
    peak = _Peak(accelerator.device)
    usual = usual_steps(
        build_model(recipe),
        np.asarray(splits["train"].images),
        splits["train"].targets,
        accelerator,
        batch,
        accumulate,
    )
    next(usual)
    forget_peak_memory(accelerator.device)
    seconds = statistics.median(itertools.islice(usual, _STEPS))
    theirs = {"images/s": batch * accumulate / seconds} | peak.figure()
    usual.close()
    accelerator = start_accelerator(recipe.training.precision)
    peak = _Peak(accelerator.device)
    with tempfile.TemporaryDirectory(prefix="chexvision-bench-") as work:
        training = Training(
            recipe, build_model(recipe), splits["train"], splits["validation"], accelerator, Path(work)
        )
        training.run()
    record = training.history[-1]  # the first epoch warms up
    ours = {"images/s": record.train_images_per_second} | peak.figure()
    ours["waits for data, %"] = 100 * record.waited_seconds / record.train_seconds
    ours["augmentation, images/s"] = _augmentation(splits["train"], recipe, accelerator.device)
    ours["augmentation, % of a step"] = 100 * ours["images/s"] / ours["augmentation, images/s"]
    ratio = {"images/s": ours["images/s"] / theirs["images/s"]}
    if "peak memory, MB" in ours:
        ratio["peak memory, MB"] = ours["peak memory, MB"] / theirs["peak memory, MB"]
    settings: dict[str, Figure] = {
        "model": model,
        "micro-batch": batch,
        "accumulate": accumulate,
        "size": size,
        "precision": accelerator.mixed_precision,
        "compile": str(compile).lower(),
        "device": str(accelerator.device),
    }
    ways = {"training loop": ours, "PyTorch's defaults, no augmentation": theirs, "ratio": ratio}
    return Report("step", settings, [Row(way, dict(figures)) for way, figures in ways.items()])


def bench_evaluate(data: Reference, model: str, batch: int, size: int) -> Report:
    """Measure prediction of the validation split in the precision that training chooses, compared with fp32.

    Args:
        data: shards.
        model: a recipe.
        batch: images per forward pass.
        size: side in pixels.
    """
    recipe = step_recipe(model, size, batch, batch, batch)
    rows = []
    for way, precision in (("precision auto", "auto"), ("fp32", "fp32")):
        accelerator = start_accelerator(precision)
        split = opened_splits(data, recipe)["validation"]
        network = build_model(recipe).to(accelerator.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

        def once() -> int:
            predict_split(network, split, accelerator, batch)  # noqa: B023 - called before the next round
            return len(split)  # noqa: B023

        measured = rate(once)
        rows.append(Row(way, {"precision": accelerator.mixed_precision, "images/s": measured.per_second}))
    return Report("evaluate", {"model": model, "batch": batch, "size": size, "images": len(split)}, rows)


def _augmentation(split: Split, recipe: Recipe, device: torch.device) -> float:
    """Images per second of the recipe's augmentation alone, one micro-batch at a time, on `device`."""
    seeds, count = itertools.count(), recipe.optim.micro_batch_size
    loaded = slice(count + mixes(recipe.augment))
    images, targets = (torch.from_numpy(np.array(of[loaded])).to(device) for of in (split.images, split.targets))

    def some() -> int:
        for seed in itertools.islice(seeds, 8):
            x = augment(images, sample(recipe.augment, len(images), seed), PIXEL_MEAN, PIXEL_STD)
            if mixes(recipe.augment):
                mixed(x, targets, sample_mix(recipe.augment, seed))
        wait_for(device)
        return 8 * count

    return rate(some).per_second


def step_recipe(model: str, size: int, micro_batch: int, batch: int, images: int, *, compile: bool = False) -> Recipe:
    phase = "{epochs: 2, lr: 1e-4, min_lr: 0, warmup_epochs: 0, freeze: none}"
    return load_recipe(
        model,
        overrides=[
            "data.split=patient",  # fits any shards
            "model.weights=none",
            "loss.teacher=null",
            "data.train_fraction=1.0",
            f"data.image_size={size}",
            f"data.max_train_images={images}",
            f"data.max_validation_images={max(8, images)}",
            f"optim.micro_batch_size={micro_batch}",
            f"optim.batch_size={batch}",
            f"training.phases=[{phase}]",
            f"training.compile={str(compile).lower()}",
        ],
    )


def opened_splits(data: Reference, recipe: Recipe) -> dict[str, Split]:
    source = find_shards(data)
    rows = splits_of(source, recipe.data, recipe.training.seed)
    return {name: open_split(source, rows, name, recipe.data, quiet=True) for name in ("train", "validation")}


class _Peak:
    """Peak memory from now on: of tensors on a GPU; on a CPU of the process, where Linux reports it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before: float | None = None
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            forget_peak_memory(device)
            return
        release_freed_memory()
        # No such file on macOS, and not writable in some containers: the peak is unknown there.
        with suppress(OSError):
            _STATUS.with_name("clear_refs").write_text("5")  # resets the peak
            self._before = _kb("VmRSS")

    def figure(self) -> dict[str, float]:
        """To be merged with other measurements; empty if unknown."""
        peak = peak_memory_mb(self._device)
        if peak is None and self._before is not None:
            peak = (_kb("VmHWM") - self._before) / 1e3
        return {} if peak is None else {"peak memory, MB": peak}


def _kb(name: str) -> float:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return float(line.split()[1]) * 1.024
