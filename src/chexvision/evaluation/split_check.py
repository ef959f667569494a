"""The input check of a model that was just trained, from the features of its splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from chexvision.artifact.metrics_file import CheckResult
from chexvision.data.dataset import Split
from chexvision.predict.fit_check import fit_input_check
from chexvision.predict.input_check import InputCheck, thumbnails

_BATCH = 64  # images of 320² are 52 MB in double precision


def check_of(
    splits: Mapping[str, Split], features: Mapping[str, NDArray[np.float32]]
) -> tuple[InputCheck | None, CheckResult | None]:
    """Fit the input check on validation, and count what it flags of the test split.

    Args:
        splits: "validation" and, where there is one, "test".
        features: float32[N, C] of each, in its order.

    Returns:
        Neither for fewer validation images than a check is fitted on.
    """
    validation, test = splits["validation"], splits.get("test")
    small = np.concatenate([thumbnails(images) for images in _batches(validation)])
    check = fit_input_check(features["validation"], small, validation.rows.patients)
    if check is None:
        return None, None
    return check, CheckResult(
        images=check.images,
        patients=check.patients,
        flagged=check.flagged,
        test_images=len(test) if test else None,
        test_flagged=_flagged(check, test, features["test"]) if test else None,
    )


def _flagged(check: InputCheck, split: Split, features: NDArray[np.float32]) -> int:
    at, flagged = 0, 0
    for images in _batches(split):
        flagged += int(check.flags(check.measure(images, features[at : at + len(images)])).sum())
        at += len(images)
    return flagged


def _batches(split: Split) -> Iterator[NDArray[np.uint8]]:
    for at in range(0, len(split), _BATCH):
        images = split.images[at : at + _BATCH]
        yield images.cpu().numpy() if isinstance(images, Tensor) else images
