"""Measures what one core and one device of this machine do, and estimates clusters from it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from chexvision.bench.bench_report import Figure, Report, Row
from chexvision.bench.building import bench_shards
from chexvision.bench.scaling import Cluster, Estimate, Rates, estimate
from chexvision.bench.steps import opened_splits, step_recipe
from chexvision.data.source import ShardSource, find_shards, preprocessing_of
from chexvision.hub.reference import Reference
from chexvision.images.radiograph import decode_grey
from chexvision.models.untrained import build_model
from chexvision.recipes import load_recipe
from chexvision.shards.columns import encoded_images
from chexvision.training.hardware import start_accelerator
from chexvision.training.loop import Training

_DECODED = 256  # images
_READ = 256 * 2**20  # bytes
_PASSES = 2  # of the measured epoch


def bench_scaling(
    data: Reference,
    radiographs: Path,
    images: Sequence[int],
    clusters: dict[str, Cluster],
    model: str,
    batch: int,
    size: int,
) -> list[Report]:
    """Measure the rates of this machine, and estimate each number of images on each cluster.

    Args:
        data: shards of at least `size`.
        radiographs: a folder of PNG files as they are released.
        images: how many.
        clusters: by name.
        model: a recipe.
        batch: images per pass.
        size: side in pixels.

    Returns:
        The rates, then one report for each cluster, of one row for each number of images.
    """
    source = find_shards(data)
    built = bench_shards(radiographs, size).rows[0].figures
    files = [path.stat().st_size for path in radiographs.rglob("*.png")]
    shards = [path for paths in source.shards.values() for path in paths]
    rates = Rates(
        original_bytes=sum(files) / len(files),
        stored_bytes=sum(path.stat().st_size for path in shards) / _rows(shards),
        image_size=size,
        build_per_core=float(built["images/s of CPU time"]),
        decode_per_core=_decoded_per_core_second(source, model, size),
        parameters=sum(one.numel() for one in build_model(load_recipe(model)).parameters()),
    )
    measured: dict[str, Figure] = {**asdict(rates), "disk_mb_per_second": _read_mb_per_second(shards)}
    measured["step_images_per_second"] = _step_images_per_second(data, model, batch, size)
    reports = [Report("scaling: rates", {"model": model}, [Row("this machine", measured)])]
    for name, cluster in clusters.items():
        rows = [Row(f"{count:,}", _figures(estimate(count, rates, cluster))) for count in images]
        reports.append(Report(f"{name}, estimated from rates", cluster.model_dump(), rows))
    return reports


def _figures(of: Estimate) -> dict[str, Figure]:
    return {
        "originals, GB": of.originals / 1e9,
        "shards, GB": of.shards / 1e9,
        "decoded, GB": of.decoded / 1e9,
        "decoded, GB/node": of.decoded_per_node / 1e9,
        "build, core h": of.build_core_hours,
        "build, h": of.build,
        "build is limited by": of.build_limit,
        "download, h": of.download,
        "decode, h": of.decode,
        "an epoch reads from": of.kept_in,
        "epoch, h: GPUs": of.epoch_gpus,
        "epoch, h: disk": of.epoch_disk,
        "epoch, h: network between nodes": of.epoch_fabric,
        "epoch, h": of.epoch,
        "epoch is limited by": of.epoch_limit,
        "batch size, at least": of.batch_size,
    }


def _rows(shards: Sequence[Path]) -> int:
    return sum(pq.ParquetFile(path).metadata.num_rows for path in shards)


def _decoded_per_core_second(source: ShardSource, model: str, size: int) -> float:
    """Images that a second of one core turns from a shard's bytes into pixels for training."""
    config = load_recipe(model, overrides=[f"data.image_size={size}"]).data
    preprocessing = preprocessing_of(source, config)
    first = pq.ParquetFile(next(path for paths in source.shards.values() for path in paths))
    groups = (
        first.read_row_group(number, columns=["image"]).column("image").combine_chunks()
        for number in range(first.num_row_groups)
    )
    encoded = [one.as_py() for one in islice((one for group in groups for one in encoded_images(group)), _DECODED)]
    preprocessing.apply(decode_grey(encoded[0]))
    began = time.process_time()
    for one in encoded:
        preprocessing.apply(decode_grey(one))
    return len(encoded) / (time.process_time() - began)


def _read_mb_per_second(shards: Sequence[Path]) -> float:
    """From the disk that the shards are on; where the system can, not from its cache."""
    done, began = 0, time.perf_counter()
    for path in shards:
        with path.open("rb", buffering=0) as file:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while done < _READ and (part := file.read(2**20)):
                done += len(part)
    return done / (time.perf_counter() - began) / 1e6


def _step_images_per_second(data: Reference, model: str, batch: int, size: int) -> float:
    """Of the training loop, in its second epoch."""
    recipe = step_recipe(model, size, batch, batch, batch * _PASSES)
    accelerator = start_accelerator(recipe.training.precision)
    splits = opened_splits(data, recipe)
    with TemporaryDirectory(prefix="chexvision-bench-") as work:
        network = build_model(recipe)
        training = Training(recipe, network, splits["train"], splits["validation"], accelerator, Path(work))
        training.run()
    return training.history[-1].train_images_per_second
