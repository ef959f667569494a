"""What an evaluation computes with networks and images, and where: on this machine, or elsewhere.

Everything else of an evaluation is arithmetic on the probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator

from chexvision.artifact.load import Ensemble
from chexvision.config.test_time import Tta
from chexvision.data.decode import Images, decoded_images
from chexvision.data.rows import Rows
from chexvision.data.source import ShardSource, find_shards
from chexvision.hub.reference import Reference
from chexvision.images.preprocessing import Preprocessing
from chexvision.inference.predict_members import predict_images, predict_members
from chexvision.metrics.ranking import Floats
from chexvision.progress import Progress

BATCH = 32  # images in a forward pass


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model of an evaluation.

    Args:
        name: what to call it.
        reference: where it is.
        loaded: the same, with its weights.
    """

    name: str
    reference: Reference
    loaded: Ensemble


class Compute(Protocol):
    """Where the networks of an evaluation are computed."""

    @property
    def precision(self) -> str:
        """Of the networks, as `Accelerator.mixed_precision` names it."""

    @property
    def device(self) -> torch.device:
        """For networks in this process."""

    def shards(self, reference: Reference) -> ShardSource:
        """The shards of a dataset.

        Raises:
            UsageError: it is not pinned, or has no shards.
            ChexError: it cannot be fetched, or a shard is not valid.
        """

    def rows(
        self, model: NamedModel, source: ShardSource, rows: Rows, what: str, tta: Tta, known: Floats | None
    ) -> Floats:
        """The probabilities of rows of shards: float64[N, K + 1], as `predict_members` computes them.

        Args:
            model: an ensemble is computed as a whole.
            source: the shards.
            rows: at least one.
            what: they are, for progress bars: the name of a split.
            tta: the test-time augmentation.
            known: see `predict_members`.
        """

    def files(self, model: NamedModel, paths: Sequence[Path], what: str, tta: Tta) -> Floats:
        """The probabilities of image files, as `rows`."""

    def images(self, source: ShardSource, rows: Rows, preprocessing: Preprocessing, what: str) -> Images:
        """Rows of shards as a network takes them."""


@dataclass(frozen=True, slots=True)
class OnThisMachine:
    """Compute in this process; images are decoded once, into the cache.

    Args:
        accelerator: of one process.
    """

    accelerator: Accelerator

    @property
    def precision(self) -> str:
        """See `Compute`."""
        return str(self.accelerator.mixed_precision)

    @property
    def device(self) -> torch.device:
        """See `Compute`."""
        device: torch.device = self.accelerator.device
        return device

    def shards(self, reference: Reference) -> ShardSource:
        """See `Compute`."""
        return find_shards(reference)

    def rows(
        self, model: NamedModel, source: ShardSource, rows: Rows, what: str, tta: Tta, known: Floats | None
    ) -> Floats:
        """See `Compute`."""
        members = model.loaded.members
        for member in members:
            self.images(source, rows, member.preprocessing, what)  # with progress; from here on it is in the cache
        with Progress(predicting(what, model.name, tta), len(rows) * len(members), "images") as progress:
            return predict_members(
                *(model.loaded, source, rows, self.accelerator, BATCH),
                tta=tta,
                known=known,
                on_batch=progress.advance,
            )

    def files(self, model: NamedModel, paths: Sequence[Path], what: str, tta: Tta) -> Floats:
        """See `Compute`."""
        total = len(paths) * len(model.loaded.members)
        with Progress(predicting(what, model.name, tta), total, "images") as progress:
            return predict_images(model.loaded, paths, self.accelerator, BATCH, tta=tta, on_batch=progress.advance)

    def images(self, source: ShardSource, rows: Rows, preprocessing: Preprocessing, what: str) -> Images:
        """See `Compute`."""
        with Progress(f"decoding {what}", len(rows), "images") as progress:
            return decoded_images(source, rows, preprocessing, progress.advance)


def predicting(what: str, model: str, tta: Tta) -> str:
    """The label of a progress bar."""
    return f"predicting {what} with {model}" + ("" if tta == "none" else f" + {tta}")
