"""What the splits of a set contain, counted image by image."""

from __future__ import annotations

from collections.abc import Sequence

from chexvision.labels import LabelCounts, LabelSpace
from chexvision.shards.manifest import SplitCounts
from chexvision.shards.schema import SPLITS


class SplitCounter:
    """Counts images, patients and labels of each split.

    Args:
        space: the label set.
    """

    def __init__(self, space: LabelSpace) -> None:
        self._labels = {split: LabelCounts(space) for split in SPLITS}
        self._patients: dict[str, set[int]] = {split: set() for split in SPLITS}
        self._images = dict.fromkeys(SPLITS, 0)

    def add(self, split: str, patient_id: int, values: Sequence[float]) -> None:
        """Count an image with these `LabelSpace.values`."""
        self._labels[split].add(values)
        self._patients[split].add(patient_id)
        self._images[split] += 1

    @property
    def counts(self) -> dict[str, SplitCounts]:
        """Of the splits that have images."""
        return {
            split: SplitCounts(images, len(self._patients[split]), labels.findings, labels.open_labels)
            for split, labels in self._labels.items()
            if (images := self._images[split])
        }
