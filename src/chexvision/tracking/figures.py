"""What is tracked of a run: numbers of its epochs and steps, and its recipe; no image, and no name of a file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from chexvision.config.data_config import SPLIT_RULES
from chexvision.tracking.tracker import Tracker

# Keys of a recipe whose values are files, folders or repositories at a commit, and their other values.
REFERENCES: Mapping[str, Sequence[str]] = {
    "model.weights": ("imagenet", "none"),
    "loss.teacher": (),
    "data.dataset": (),
    "data.split": SPLIT_RULES,
    "data.datasets.name": (),
    "data.datasets.split": SPLIT_RULES,
}
_PINNED = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}(:[^/\\]+)?", re.ASCII)


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


def without_paths(tree: Any, at: str = "") -> Any:
    """A recipe in JSON's types, with every text that names a file or folder of a machine replaced.

    Whether there is such a file does not count: a run may be resumed where it is not.

    Args:
        tree: the recipe, or its value at `at`.
        at: keys, joined by dots.
    """
    if isinstance(tree, Mapping):
        return {key: without_paths(value, f"{at}.{key}" if at else key) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [without_paths(value, at) for value in tree]
    return "a local file" if isinstance(tree, str) and _names_file(tree, at) else tree


def _names_file(text: str, at: str) -> bool:
    if _PINNED.fullmatch(text):
        return False
    return text not in REFERENCES[at] if at in REFERENCES else text[:1] in ("/", ".", "~") or "\\" in text
