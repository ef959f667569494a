"""The decoded splits of a run and their targets."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from chexvision.config.data_config import DataConfig, Uncertain
from chexvision.data.decode import decoded_images
from chexvision.data.division import division_of
from chexvision.data.joined_images import JoinedImages
from chexvision.data.node_share import NodeShare
from chexvision.data.rows import Rows
from chexvision.data.source import ShardSource, preprocessing_of
from chexvision.images.preprocessing import Preprocessing
from chexvision.labels import OUTSIDE, UNCERTAIN
from chexvision.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

# The middle of the range (0.55 to 0.85) from which Pham et al. (arXiv:1911.06475) sample smoothed targets.
_UNCERTAIN_TARGETS: dict[Uncertain, float] = {"ignore": np.nan, "zeros": 0.0, "ones": 1.0, "smooth": 0.7}


def targets_of(findings: NDArray[np.float32], uncertain: Uncertain) -> NDArray[np.float32]:
    """Labels as targets in [0, 1], or NaN for unknown: float32[N, K + 1], the findings, then the binary target.

    The binary target is 1 where a finding is present, unknown where none is known to be present but some are
    unknown, and else the largest target of a finding: 0 where all are absent. It is about the findings of the image's
    own label set alone: one that is normal there is normal in a mixture.

    Args:
        findings: float32[N, K], `chexvision.labels.LabelSpace.values` or `OUTSIDE`.
        uncertain: what an uncertain label becomes; see `DataConfig`.
    """
    own = np.where(findings == UNCERTAIN, np.float32(_UNCERTAIN_TARGETS[uncertain]), findings)
    present = (own == 1).any(axis=1, keepdims=True)
    abnormal = np.where(
        present, np.float32(1), own.max(axis=1, keepdims=True)
    )  # NaN if there is any, then OUTSIDE last
    targets = np.where(findings == OUTSIDE, np.float32(np.nan), own)
    return np.concatenate([targets, abnormal], axis=1)


@dataclass(frozen=True, slots=True)
class Part:
    """The images of one data set in a split.

    Args:
        name: of the data set, short and unique in its mixture.
        source: the shards.
        rows: the images as the shards have them, in the data set's own label set.
        begin: the first one's position in the split.
        per_epoch: images of this data set per training epoch, not counting mirrored copies.
    """

    name: str
    source: ShardSource
    rows: Rows
    begin: int
    per_epoch: int

    @property
    def end(self) -> int:
        """The position after the last one."""
        return self.begin + len(self.rows)


@dataclass(frozen=True, slots=True)
class Split:
    """The decoded images of one split with their labels.

    Args:
        name: "train", "validation" or "test".
        images: uint8[N, H, W]: memory-mapped, or where `chexvision.data.placement` put it.
        rows: filenames, findings and patients, in the same order. Of a mixture, names begin with the data set's and
            patients are numbered over all of them.
        uncertain: what uncertain labels are in the targets; for measuring they are unknown ("ignore").
        mirror: whether an epoch of training has each image a second time, with left and right exchanged.
        teacher: float32[N, K + 1], the probabilities of a model to be distilled, in training alone.
        parts: the data sets in their order, without a gap; empty where it is not known which they are.
        node_share: where the images are divided among machines, how: `images` are those that are here alone.
    """

    name: str
    images: NDArray[np.uint8] | JoinedImages | Tensor
    rows: Rows
    uncertain: Uncertain = "ignore"
    mirror: bool = False
    teacher: NDArray[np.float32] | None = None
    parts: tuple[Part, ...] = ()
    node_share: NodeShare | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def is_mixture(self) -> bool:
        """Whether it has images of several data sets."""
        return len(self.parts) > 1

    @property
    def images_per_epoch(self) -> int:
        """Images that an epoch of training takes from it, both of each where they are mirrored."""
        return len(self) * (2 if self.mirror else 1)

    @property
    def taken_per_epoch(self) -> NDArray[np.float64] | None:
        """How often an epoch takes each image in the mean, float64[N]; None where it takes all equally often."""
        if all(part.per_epoch == len(part.rows) for part in self.parts):
            return None
        return np.concatenate([np.full(len(part.rows), part.per_epoch / len(part.rows)) for part in self.parts])

    @property
    def targets(self) -> NDArray[np.float32]:
        """float32[N, K + 1], of `targets_of`."""
        return targets_of(self.rows.findings, self.uncertain)

    @property
    def training_targets(self) -> NDArray[np.float32]:
        """The targets, and next to them the teacher's probabilities: float32[N, K + 1] or float32[N, 2 (K + 1)]."""
        return self.targets if self.teacher is None else np.concatenate([self.targets, self.teacher], axis=1)


def open_split(
    source: ShardSource,
    rows: dict[str, Rows],
    name: str,
    config: DataConfig,
    quiet: bool = False,
    preprocessing: Preprocessing | None = None,
) -> Split:
    """Decode split `name` of `source`, unless it is in the cache.

    Args:
        source: the shards.
        rows: the rows of each split, from `splits_of`.
        name: which split.
        config: size, CLAHE settings, and for training what uncertain labels are, and whether images are mirrored.
        quiet: show no progress.
        preprocessing: that of the config for these shards by default.

    Raises:
        UsageError: the images are to be larger than the shards'.
        ChexError: the disk is too full, or an image in a shard cannot be read.
    """
    wanted, preprocessing = rows[name], preprocessing or preprocessing_of(source, config)
    with nullcontext() if quiet else Progress(f"decoding {name}", len(wanted), "images") as progress:
        images = decoded_images(source, wanted, preprocessing, progress.advance if progress else None)
    parts = (Part(source.name, source, wanted, 0, len(wanted)),)
    if name != "train":
        return Split(name, images, wanted, parts=parts)
    return Split(name, images, wanted, config.uncertain, config.mirror, parts=parts)


def splits_of(source: ShardSource, config: DataConfig, seed: int) -> dict[str, Rows]:
    """The rows of each split, as the recipe divides and samples them; see `division_of`."""
    return division_of(source, config).sampled(config, seed)
