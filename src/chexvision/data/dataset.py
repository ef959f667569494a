"""The splits of a run, ready to be indexed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from chexvision.config import DataConfig
from chexvision.data.decode import decoded_images
from chexvision.data.rows import Rows, read_rows, sample_patients
from chexvision.data.sizes import preprocessing_of
from chexvision.data.source import ShardSource
from chexvision.errors import UsageError
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
    """The rows of each split, as the recipe divides and samples them; without pixels.

    Raises:
        UsageError: there is nothing to train on or to validate on.
    """
    rows = read_rows(source.shards, config.split_table)
    rows["train"] = sample_patients(rows["train"], config.max_train_images, seed)
    rows["validation"] = sample_patients(rows["validation"], config.max_validation_images, seed)
    for name in ("train", "validation"):
        if not len(rows[name]):
            raise UsageError(f"{source.name} has no {name} images; build the shards with a split that has some")
    return rows
