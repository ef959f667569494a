"""A published model's or ensemble's probabilities: of rows of shards, or of image files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from chexvision.artifact.load import Ensemble
from chexvision.config.test_time import Tta
from chexvision.data.dataset import Split
from chexvision.data.decode import Decode, decoded_images
from chexvision.data.rows import Rows
from chexvision.data.source import ShardSource
from chexvision.inference.predict_split import predict_paths, predict_split
from chexvision.inference.tta import views_of
from chexvision.metrics.ranking import Floats
from chexvision.models.classifier import CheXVision
from chexvision.models.network_engine import View, unchanged
from chexvision.predict.engine import finite

OnBatch = Callable[[int], None]


def predict_members(
    ensemble: Ensemble,
    source: ShardSource,
    rows: Rows,
    accelerator: Accelerator,
    batch_size: int,
    *,
    tta: Tta = "none",
    known: Floats | None = None,
    on_batch: OnBatch | None = None,
    decode: Decode = decoded_images,
) -> Floats:
    """Predict rows of shards, each member on images that are decoded by its own preprocessing.

    The images are divided among the processes of `accelerator`; each of them gets all probabilities. A batch has
    images of one shard, so that shards can be computed apart with the same result.

    Args:
        ensemble: on the accelerator's device, in evaluation mode.
        source: the shards that `rows` point into.
        rows: at least one.
        accelerator: gives device, precision and the other processes.
        batch_size: images per forward pass.
        tta: the test-time augmentation.
        known: the result without one; where the unchanged image is one of the views, it is not predicted again.
        on_batch: called with how many more images a member is done with; there are ``len(members) * len(rows)``.
        decode: reads the images.

    Returns:
        float64[N, K + 1] in the order of `rows`: the weighted mean of the members' raw probabilities.

    Raises:
        ChexError: an image cannot be decoded, or a member computes something that is not a number.
    """

    def predict(member: CheXVision, views: Sequence[View]) -> Floats:
        images, parts = decode(source, rows, member.preprocessing), []
        for at in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows.shard)) + 1):
            split = Split("predicted", images[at[0] : at[-1] + 1], rows.take(at))
            found, _ = predict_split(member, split, accelerator, batch_size, views=views, on_batch=on_batch)
            parts.append(found)
        return finite(np.concatenate(parts))

    return _mean(ensemble, tta, known, predict)


def predict_images(
    ensemble: Ensemble,
    paths: Sequence[Path],
    accelerator: Accelerator,
    batch_size: int,
    *,
    tta: Tta = "none",
    on_batch: OnBatch | None = None,
) -> Floats:
    """Predict image files, as `predict_members` predicts rows.

    Raises:
        UsageError: a file is missing or not an image.
        ChexError: a member computes something that is not a number.
    """
    return _mean(
        ensemble,
        tta,
        None,
        lambda member, views: predict_paths(member, paths, accelerator, batch_size, views, on_batch),
    )


def _mean(
    ensemble: Ensemble, tta: Tta, known: Floats | None, predict: Callable[[CheXVision, Sequence[View]], Floats]
) -> Floats:
    """The members' weighted mean, over all views of `tta`; each member has equally many."""
    parts = []
    for member, weight in zip(ensemble.members, ensemble.weights, strict=True):
        views = views_of(tta, any_size=member.backbone.any_size)
        again = views[1:] if known is not None and views[0] is unchanged else views
        parts.append(weight * predict(member, again))
    mean: Floats = np.sum(parts, axis=0)
    return mean if known is None else mean + (known - mean) * (len(views) - len(again)) / len(views)
