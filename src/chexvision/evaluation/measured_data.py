"""The datasets of an evaluation: their shards, how each is divided, and what is measured of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chexvision.artifact.load import Ensemble
from chexvision.artifact.other_results import DatasetConditions
from chexvision.artifact.recorded_split import split_for, training_data
from chexvision.data.rows import Rows, join, read_rows, record_split
from chexvision.data.source import ShardSource
from chexvision.errors import UsageError
from chexvision.evaluation.attributes import conditions_of
from chexvision.evaluation.computing import Compute, NamedModel
from chexvision.hub.reference import Reference, RepoRef, parse_reference, short_names
from chexvision.labels import ABNORMAL, LabelSpace
from chexvision.shards.split_rule import SHARDS, SplitChoice, SplitRecord

ALL = "all"  # the images of all splits


@dataclass(frozen=True, slots=True)
class Models:
    """The models of an evaluation.

    Args:
        names: what to call each.
        references: where each is, in the same order.
        loaded: the same, with their weights.
        trained_on: the identities of the datasets that each was trained on; None where it has no record.
    """

    names: tuple[str, ...]
    references: tuple[Reference, ...]
    loaded: tuple[Ensemble, ...]
    trained_on: tuple[frozenset[str] | None, ...]

    @classmethod
    def of(cls, names: Sequence[str], references: Sequence[Reference], loaded: Sequence[Ensemble]) -> Models:
        """Models with what they record of their training.

        Raises:
            ChexError: a record cannot be fetched.
        """
        return cls(tuple(names), tuple(references), tuple(loaded), tuple(map(training_data, references)))

    def __getitem__(self, i: int) -> NamedModel:
        return NamedModel(self.names[i], self.references[i], self.loaded[i])

    @property
    def outputs(self) -> tuple[str, ...]:
        """What all of them predict, in the order of the first."""
        spaces = [model.label_space.outputs for model in self.loaded]
        return tuple(name for name in spaces[0] if all(name in space for space in spaces))

    @property
    def label_space(self) -> LabelSpace:
        """`outputs` as a label set.

        Raises:
            UsageError: no finding is predicted by all of them.
        """
        findings = tuple(name for name in self.outputs if name != ABNORMAL)
        if not findings:
            raise UsageError(f"no finding is predicted by all of {', '.join(self.names)}; evaluate them one by one")
        return LabelSpace(findings=findings, normal=self.loaded[0].label_space.normal)

    def trained_on_any(self, identity: str) -> tuple[bool | None, ...]:
        """For each model whether it was trained on a dataset; None where that is unknown."""
        return tuple(None if known is None else identity in known for known in self.trained_on)

    def split(self, source: ShardSource, asked: str | None, *, further: bool) -> SplitChoice:
        """How to divide a dataset: as asked, or as the models that were trained on it did.

        Where none was, the first dataset is divided as the models divided theirs, and a further one as its shards
        are.

        Raises:
            UsageError: these models have different splits.
        """
        own = [i for i, is_own in enumerate(self.trained_on_any(source.identity)) if is_own]
        if further and not own and asked is None:
            return SHARDS
        chosen = own or list(range(len(self.names)))
        names, references = [self.names[i] for i in chosen], [self.references[i] for i in chosen]
        return split_for(names, references, asked, source.identity).fitting(source.manifest)


@dataclass(frozen=True, slots=True)
class MeasuredData:
    """One dataset of an evaluation.

    Args:
        source: its shards.
        choice: how it is divided.
        rows: by split; with `ALL` where that is measured.
        split: what is measured.
        label_space: what is measured of the models' outputs: those that it labels.
        unlabeled: the models' other outputs.
    """

    source: ShardSource
    choice: SplitChoice
    rows: dict[str, Rows]
    split: str
    label_space: LabelSpace
    unlabeled: tuple[str, ...]

    @classmethod
    def of(
        cls, source: ShardSource, models: Models, split: str, asked: str | None, *, further: bool = False
    ) -> MeasuredData:
        """Divide the images of shards.

        Args:
            source: the shards.
            models: what is measured.
            split: what to measure of them.
            asked: how to divide them; see `Models.split`.
            further: whether it is not the first dataset.

        Raises:
            UsageError: no finding of the models is labeled, or the rule does not fit.
            ChexError: a shard cannot be read, or two splits share a patient.
        """
        known, predicted = source.label_space, models.label_space
        findings = tuple(name for name in predicted.findings if name in known.findings)
        if not findings:
            who = f"{' and '.join(models.names)} {'predicts' if len(models.names) == 1 else 'predict'}"
            raise UsageError(
                f"{who} {', '.join(predicted.findings)}, but the labels of {source.name} "
                f"are {', '.join(known.findings)}; evaluate on data that share a finding"
            )
        choice = models.split(source, asked, further=further)
        rows = read_rows(source.shards, choice, known, source.columns)
        if split == ALL:
            rows = {**rows, ALL: _joined([of for of in rows.values() if len(of)])}
        unlabeled = tuple(name for name in predicted.findings if name not in findings)
        return cls(source, choice, rows, split, LabelSpace(findings=findings, normal=known.normal), unlabeled)

    def wanted(self, name: str) -> Rows:
        """The rows of a split.

        Raises:
            UsageError: it has no images.
        """
        rows = self.rows.get(name)
        if rows is None or not len(rows):
            there = ", ".join(k for k, v in self.rows.items() if len(v) and k != ALL)
            raise UsageError(f"{self.source.name} has no {name} images; it has {there}")
        return rows

    @property
    def measured(self) -> Rows:
        """The rows of the measured split; see `wanted`."""
        return self.wanted(self.split)

    @property
    def division(self) -> SplitRecord:
        """How the images were divided."""
        return record_split(self.choice, {name: rows for name, rows in self.rows.items() if name != ALL})

    def conditions(self, name: str) -> DatasetConditions:
        """For the table of several datasets."""
        of = conditions_of(self.source, self.split, self.division, "")
        return DatasetConditions(
            name=name,
            dataset=of.dataset,
            dataset_identity=of.dataset_identity,
            synthetic=of.synthetic,
            split=of.split,
            split_rule=of.split_rule,
            division=of.division,
            unlabeled=self.unlabeled,
            unpredicted=self.unpredicted,
        )

    @property
    def unpredicted(self) -> tuple[str, ...]:
        """The findings that it labels and the models do not predict."""
        return tuple(of for of in self.source.label_space.findings if of not in self.label_space.findings)


def open_data(references: Sequence[Reference], compute: Compute) -> list[ShardSource]:
    """The shards of all datasets.

    Raises:
        UsageError: one is named twice, is not pinned, or has no shards.
        ChexError: a download failed, or a shard is not valid.
    """
    sources = [compute.shards(reference) for reference in references]
    for i, source in enumerate(sources):
        twice = next((other for other in sources[:i] if other.identity == source.identity), None)
        if twice is not None:
            raise UsageError(f"{source.name} has the same shards as {twice.name}; name each dataset once")
    return sources


def dataset_names(sources: Sequence[ShardSource]) -> list[str]:
    """Short names for tables: the folder, or the repository without its commit where that is enough."""
    references = [parse_reference(source.name) for source in sources]
    plain = [of.repo_id if isinstance(of, RepoRef) else str(of) for of in references]
    if len(set(plain)) == len(plain):
        return short_names(plain)
    shas = [str(of.revision)[:8] if isinstance(of, RepoRef) else "" for of in references]
    return short_names([f"{name}@{sha}" if sha else name for name, sha in zip(plain, shas, strict=True)])


def _joined(parts: Sequence[Rows]) -> Rows:
    """The rows of several splits, in the order of the shards."""
    together = join(parts)
    return together.take(np.lexsort((together.row, together.shard)))
