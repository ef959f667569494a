"""The input check of a model, fitted on its validation images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from chexvision.metrics.ranking import Floats
from chexvision.predict.input_check import (
    MESSAGES,
    Gaussian,
    InputCheck,
    layout_tests,
    normalized_features,
    standardized,
    tests_of,
)

SHARE = 0.01  # of validation images that all tests together flag
FEWEST_IMAGES = 50  # with fewer, less than one is to be flagged, and limits would be guesses
DIRECTIONS = 32  # on NIH radiographs 16 find fewer squeezed images, 64 fewer rotated and cropped ones
INVERTED = 0.1  # limit of a correlation: of radiographs it is -0.14 and below, of inverted ones mostly above 0.3
_FOLDS = 10
_IMAGES_PER_DIRECTION = 4
_TAIL = 0.1  # share of the images whose values a limit is estimated from,
_TAIL_IMAGES = 100  # but not more images than these
_SMALLEST = 1e-9  # variance or excess where validation images are all the same


def fit_input_check(features: NDArray[np.float32], small: Floats, patients: NDArray[np.int64]) -> InputCheck | None:
    """Fit the distributions and choose the limits.

    Limits are chosen on distances from distributions that were fitted without the image's patient, in 10 folds: an
    image is nearer to a distribution that was fitted on it.

    Args:
        features: float[N, C], see `CheXVision.features`.
        small: float64[N, 256], see `chexvision.predict.input_check.thumbnails`.
        patients: int64[N].

    Returns:
        None for fewer than `FEWEST_IMAGES` images or 10 patients.
    """
    known = np.unique(patients)
    if len(patients) < FEWEST_IMAGES or len(known) < _FOLDS:
        return None
    vectors, layouts = normalized_features(features), standardized(small)[0]
    fold = np.searchsorted(known, patients) % _FOLDS
    distances = np.empty((len(patients), 2))
    for number in range(_FOLDS):
        mine = fold == number
        for column, rows in enumerate((vectors, layouts)):
            distances[mine, column] = _gaussian(rows[~mine]).distance(rows[mine])
    values = np.column_stack([distances, layout_tests(small, layouts.mean(axis=0))])
    limits = dict(zip(MESSAGES, (*joint_limits(values[:, :3]).tolist(), INVERTED), strict=True))
    check = InputCheck(
        tests_of(limits), _gaussian(vectors), _gaussian(layouts), images=len(patients), patients=len(known), flagged=0
    )
    return replace(check, flagged=int(check.flags(values).sum()))


def joint_limits(values: Floats) -> Floats:
    """Limits float64[T] that about `SHARE` of the images float64[N, T] exceed in any of the tests.

    The excess of a value over a high quantile is taken to be exponential, as the excesses of most distributions are
    nearly (Pickands, Annals of Statistics 1975, with shape 0). It is estimated by its median, which a few odd images
    do not move. In units of its scale all tests are comparable; the largest of an image is its score, and the limit
    of the scores is that of every test.
    """
    start, scale = _tail(values)
    scores = ((values - start) / scale).max(axis=1, keepdims=True)
    score_start, score_scale = _tail(scores)
    limit = score_start + score_scale * np.log(_tail_share(len(values)) / SHARE)
    limits: Floats = start + scale * limit
    return limits


def _tail_share(images: int) -> float:
    """At least `SHARE`: of many images the limit is simply the quantile."""
    return max(SHARE, min(_TAIL, _TAIL_IMAGES / images))


def _tail(values: Floats) -> tuple[Floats, Floats]:
    """By column, where the tail begins, and the scale of the excesses."""
    start = np.quantile(values, 1 - _tail_share(len(values)), axis=0)
    excess = np.array(
        [
            np.median(column[column > at] - at) if (column > at).any() else 0.0
            for column, at in zip(values.T, start, strict=True)
        ]
    )
    return start, np.maximum(excess / np.log(2), _SMALLEST)


def _gaussian(vectors: Floats) -> Gaussian:
    """Fitted on float64[N, k]."""
    mean = vectors.mean(axis=0)
    images, channels = vectors.shape
    centered = vectors - mean
    ascending, columns = np.linalg.eigh(centered.T @ centered / (images - 1))
    variances, directions = ascending[::-1], columns.T[::-1]
    kept = max(1, min(DIRECTIONS, channels - 1, images // _IMAGES_PER_DIRECTION))
    rest = max(_SMALLEST, variances[kept:].sum() / (channels - kept))
    return Gaussian(
        mean.astype(np.float32),
        directions[:kept].astype(np.float32),
        np.maximum(variances[:kept], rest).astype(np.float32),
        np.array([rest], np.float32),
    )
