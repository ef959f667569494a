"""Raw radiographs to shards."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from chexvision.bench.alternatives import pillow_encoder
from chexvision.bench.bench_report import Report, Row
from chexvision.errors import UsageError
from chexvision.images.radiograph import decode_grey, encode_grey, resize_area


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
