"""The splits of a run, ready to be indexed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from chexvision.config import DataConfig
from chexvision.data.decode import decoded_images
from chexvision.data.division import division_of
from chexvision.data.rows import Rows
from chexvision.data.sizes import preprocessing_of
from chexvision.data.source import ShardSource
from chexvision.progress import Progress


@dataclass(frozen=True, slots=True)
class Split:
    """The decoded images of one split and what is known of them.

    Args:
        name: "train", "validation" or "test".
        images: uint8[N, H, W]: memory-mapped, or where `chexvision.data.placement` put it.
        rows: filenames, findings and patients, in the same order.
    """

    name: str
    images: NDArray[np.uint8] | Tensor
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def targets(self) -> NDArray[np.float32]:
        """float32[N, 15]: the 14 findings, then whether there is any."""
        findings = self.rows.findings
        abnormal = findings.any(axis=1, keepdims=True).astype(np.float32)
        return np.concatenate([findings, abnormal], axis=1)


def open_split(
    source: ShardSource, rows: dict[str, Rows], name: str, config: DataConfig, quiet: bool = False
) -> Split:
    """Decode split `name` of `source`, or find it decoded.

    Args:
        source: the shards.
        rows: the rows of each split, from `splits_of`.
        name: which split.
        config: size and CLAHE settings.
        quiet: show no progress.

    Raises:
        UsageError: the images are to be larger than the shards'.
        ChexError: the disk is too full, or an image in a shard cannot be read.
    """
    wanted, preprocessing = rows[name], preprocessing_of(source, config)
    if quiet:
        return Split(name, decoded_images(source, wanted, preprocessing), wanted)
    with Progress(f"decoding {name}", len(wanted), "images") as progress:
        return Split(name, decoded_images(source, wanted, preprocessing, progress.advance), wanted)


def splits_of(source: ShardSource, config: DataConfig, seed: int) -> dict[str, Rows]:
    """The rows of each split, as the recipe divides and samples them; see `division_of`."""
    return division_of(source, config).sampled(config, seed)
