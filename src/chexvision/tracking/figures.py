"""What is tracked of a run: numbers of its epochs and steps, and its recipe; no image, and no name of a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from chexvision.tracking.tracker import Tracker


class RunFigures:
    """Turns what the training loop reports into records of a tracker.

    The step of a record is that of the optimization, counted over all epochs: the figures of epoch E are those of its
    last step.

    Args:
        tracker: receives them.
        steps: optimization steps of an epoch.
        batch_size: images of a step; the last one of an epoch may have fewer.
    """

    def __init__(self, tracker: Tracker, steps: int, batch_size: int) -> None:
        self._tracker = tracker
        self._steps = steps
        self._batch_size = batch_size
        self._before = 0  # steps of the epochs that ended
        self._read = (0.0, 0.0)  # images and their loss at the last reading

    def epoch_begins(self, epoch: int) -> None:
        """Epoch `epoch`, from 1, begins or continues."""
        self._before = (epoch - 1) * self._steps
        self._read = (0.0, 0.0)

    def loss(self, images: float, loss_sum: float) -> None:
        """The loss, summed over the epoch's first `images`, after a step: tracks its mean since the last reading."""
        step = -(-round(images) // self._batch_size)
        seen, before = self._read
        # The last step of an epoch has that epoch's figures.
        if step < self._steps and images > seen:
            self._read = (images, loss_sum)
            self._tracker.send(self._before + step, {"step_loss": (loss_sum - before) / (images - seen)})

    def epoch(self, number: int, record: Mapping[str, object]) -> None:
        """An epoch, from 1, ended; `record` is its entry of ``history.json``."""
        self._tracker.send(number * self._steps, numbers(record))


def numbers(record: Mapping[str, object], prefix: str = "") -> dict[str, float]:
    """The numbers of a tree, by the path of their keys, such as ``auroc/Hernia``; the rest is left out."""
    found: dict[str, float] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            found |= numbers(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[f"{prefix}{key}"] = value
    return found


def without_paths(tree: Any) -> Any:
    """A recipe in JSON's types, with every text that names a file or folder of this machine replaced."""
    if isinstance(tree, Mapping):
        return {key: without_paths(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [without_paths(value) for value in tree]
    if isinstance(tree, str) and (tree[:1] in ("/", ".", "~") or "\\" in tree or os.path.exists(tree)):  # noqa: PTH110 - takes any text
        return "a local file"
    return tree
