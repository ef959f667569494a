"""The data sets of a mixture as ``run.json`` and ``metrics.json`` record them. Needs no numpy."""

from __future__ import annotations

from chexvision.metrics.records import Record, SplitMetrics
from chexvision.shards.split_rule import SplitRecord


class DataTerms(Record):
    """Under which terms a data set's images are used, as far as its shards record them.

    Args:
        title: of the data set.
        license: an identifier of the Hub or a short name.
        license_link: the text of the terms.
        credentialed: whether only people who signed an agreement may have it.
        citation: authors, title, venue.
    """

    title: str | None = None
    license: str | None = None
    license_link: str | None = None
    credentialed: bool = False
    citation: str | None = None

    @property
    def in_words(self) -> str:
        """All of it but the citation."""
        known = [text for text in (self.title, self.license, self.license_link) if text]
        return ", ".join([*known, *(["credentialed"] if self.credentialed else [])]) or "not recorded"


class TrainedOn(DataTerms):
    """A data set of a mixture that a run was trained on.

    Args:
        name: short, as in the run's ``history.json``.
        dataset: ``USER/NAME@sha``, or the folder's path.
        dataset_identity: equal for shards of equal names and content.
        synthetic: whether its images are synthetic.
        findings: that it labels.
        split: how its images were divided.
        weight: of the recipe.
        train_images: that were used.
        images_per_epoch: how many an epoch took of them.
    """

    name: str
    dataset: str
    dataset_identity: str
    synthetic: bool
    findings: tuple[str, ...]
    split: SplitRecord
    weight: float
    train_images: int
    images_per_epoch: int


class PartResult(Record):
    """A model on one data set of its mixture, with the operating points that were chosen on the whole mixture.

    Args:
        name: short, as in ``run.json``.
        dataset: ``USER/NAME@sha``, or the folder's path.
        dataset_identity: equal for shards of equal names and content.
        split: which part was measured.
        metrics: over the findings that the data set labels.
        validation: of raw probabilities, with calls at one half; null where that is what was measured.
    """

    name: str
    dataset: str
    dataset_identity: str
    split: str
    metrics: SplitMetrics
    validation: SplitMetrics | None = None
