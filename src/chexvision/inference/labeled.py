"""Probabilities of a split with its labels. Needs no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chexvision.data.dataset import targets_of
from chexvision.data.rows import Rows
from chexvision.errors import ChexError
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.ranking import Floats


def labeled(rows: Rows, probabilities: NDArray[np.floating]) -> Predictions:
    """The probabilities float[N, K + 1] of `rows` with their labels; uncertain labels count as unknown.

    Raises:
        ChexError: a probability is not a number.
    """
    targets = targets_of(rows.findings, "ignore").astype(np.float64)
    return Predictions(rows.label_space.outputs, rows.filenames, rows.patients, finite(probabilities), targets)


def finite(probabilities: NDArray[np.floating]) -> Floats:
    """A model's probabilities in double precision.

    Raises:
        ChexError: one is not a number.
    """
    if not np.isfinite(probabilities).all():
        raise ChexError("the model's output is not a number; its weights are damaged or did not converge")
    return probabilities.astype(np.float64)
