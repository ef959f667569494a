"""Probabilities of a split with its labels. Needs no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chexvision.data.dataset import Split, targets_of
from chexvision.data.rows import Rows
from chexvision.labels import LabelSpace
from chexvision.metrics.predictions import Predictions
from chexvision.predict.engine import finite


def labeled(rows: Rows, probabilities: NDArray[np.floating], space: LabelSpace | None = None) -> Predictions:
    """Probabilities of `rows` with their labels; uncertain labels count as unknown.

    Args:
        rows: N images.
        probabilities: float[N, K + 1], of the outputs of `space`.
        space: what the model predicts, where that is not the rows' label set. Kept are the outputs in both, in the
            order of `space`; the binary label follows from all findings of the rows' label set.

    Raises:
        ChexError: a probability is not a number.
    """
    known = rows.label_space.outputs
    predicted = known if space is None else space.outputs
    names = tuple(name for name in predicted if name in known)
    targets = targets_of(rows.findings, "ignore").astype(np.float64)[:, [known.index(name) for name in names]]
    chosen = probabilities[:, [predicted.index(name) for name in names]]
    return Predictions(names, rows.filenames, rows.patients, finite(chosen), targets)


def labeled_parts(split: Split, probabilities: NDArray[np.floating]) -> dict[str, Predictions]:
    """The predictions for each data set of a mixture by its name, of the findings that it labels.

    Args:
        split: of N images.
        probabilities: float[N, K + 1], of the mixture's outputs.
    """
    space = split.rows.label_space
    return {part.name: labeled(part.rows, probabilities[part.begin : part.end], space) for part in split.parts}
