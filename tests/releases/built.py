"""Options of builds in tests."""

from __future__ import annotations

from functools import partial

from chexvision.shards.build import BuildOptions

OPTIONS = partial(
    BuildOptions, split=None, size=32, encoding="png", shard_bytes=10**6, workers=2, seed=0, max_bad=0.0,
    overwrite=False,
)  # fmt: skip
