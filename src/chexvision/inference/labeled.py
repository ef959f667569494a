"""Probabilities of a split with its labels. Needs no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chexvision.data.dataset import targets_of
from chexvision.data.rows import Rows
from chexvision.metrics.predictions import Predictions
from chexvision.predict.engine import finite


def labeled(rows: Rows, probabilities: NDArray[np.floating]) -> Predictions:
    """The probabilities float[N, K + 1] of `rows` with their labels; uncertain labels count as unknown.

    Raises:
        ChexError: a probability is not a number.
    """
    targets = targets_of(rows.findings, "ignore").astype(np.float64)
    return Predictions(rows.label_space.outputs, rows.filenames, rows.patients, finite(probabilities), targets)
