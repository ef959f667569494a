"""Raw radiographs to shards."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from chexvision.bench.alternatives import pillow_encoder
from chexvision.bench.bench_report import Report, Row
from chexvision.errors import UsageError
from chexvision.images.radiograph import decode_grey, encode_grey, resize_area
from chexvision.images.sources import find_images
from chexvision.labels import NIH
from chexvision.nih.metadata import Entry
from chexvision.shards.build import Make
from chexvision.shards.manifest import Source
from chexvision.shards.planned.make import Item, ShardRecipe, Work
from chexvision.shards.planned.outputs import LocalOutput
from chexvision.shards.planned.plan import PlannedShard
from chexvision.shards.schema import USUAL_COLUMNS, shard_name

_SHARDS = 16  # enough to keep several workers busy to the end


def bench_shards(images: Path, size: int) -> Report:
    """Measure decoding, area-averaging and encoding of radiographs on one core, compared with Pillow.

    Args:
        images: a folder of PNG files, searched to any depth.
        size: side of the stored images in pixels.

    Raises:
        UsageError: the folder contains no PNG files.
    """
    files = sorted(images.rglob("*.png"))
    if not files:
        raise UsageError(f"{images} contains no PNG files; pass a folder of radiographs, such as images_001")
    rows = []
    contents = [path.read_bytes() for path in files]
    ways: dict[str, Callable[[bytes], bytes]] = {
        "ours": lambda data: encode_grey(resize_area(decode_grey(data), size), "png"),
        "Pillow, grey by area": lambda data: pillow_encoder(data, size, "L"),
        "Pillow, RGB by Lanczos": lambda data: pillow_encoder(data, size, "RGB"),
    }
    for way, encode in ways.items():
        encode(contents[0])
        began, cpu = time.perf_counter(), time.process_time()
        stored = sum(len(encode(data)) for data in contents)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        figures = {
            "images/s": len(files) / seconds,
            "images/s of CPU time": len(files) / cpu,
            "bytes/image": stored / len(files),
        }
        rows.append(Row(way, dict(figures)))
    return Report("shards", {"images": len(files), "size": size}, rows)


def bench_cluster(images: Path, size: int, make: Make) -> Report:
    """Measure building on a cluster by one worker, then by two, in one run.

    Args:
        images: a folder of radiographs that all nodes reach, as they do the current one, where shards are written.
        size: side of the stored images in pixels.
        make: makes shards on the cluster, which has two CPUs or more.

    Raises:
        UsageError: the folder contains no images.
    """
    entry = Entry(NIH.format(()), 1, None, None, None, None, None, None)
    labels = NIH.values(entry.labels)
    items = [Item(found, entry, "train", labels) for found in find_images([images.absolute()]).images]
    count = min(_SHARDS, len(items))
    shards = tuple(PlannedShard(shard_name("train", i, count), "train", tuple(items[i::count])) for i in range(count))
    recipe = ShardRecipe(size, "png", True, NIH, USUAL_COLUMNS, Source("radiographs"))
    rates = {}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as made:
        # The first time, the workers' processes are started.
        for name, workers in (("warm-up", 2), ("1 worker", 1), ("2 workers", 2)):
            output = LocalOutput(Path(made, name))
            output.folder.mkdir()
            began = time.perf_counter()
            rows = sum(built.shard.rows for built in make(Work(shards, recipe, output, workers)))
            rates[name] = rows / (time.perf_counter() - began)
    one, two = rates["1 worker"], rates["2 workers"]
    return Report(
        "shards on a cluster",
        {"images": len(items), "size": size, "shards": count},
        [Row("1 worker", {"images/s": one}), Row("2 workers", {"images/s": two, "times one worker": two / one})],
    )
