"""The data of a run: one data set, or a mixture of several that is used as one.

In a mixture every image has the findings of all data sets; those that its own data set does not label are unknown.
File names and patients of different data sets are different ones, whatever they are called.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import ValidationError

from chexvision.artifact.mixture_records import DataTerms, TrainedOn
from chexvision.config.data_config import DataConfig, DatasetConfig
from chexvision.data.dataset import Part, Split, open_split
from chexvision.data.division import Division, UsedImages, check_data, division_of
from chexvision.data.epoch_order import images_per_part
from chexvision.data.joined_images import JoinedImages
from chexvision.data.joined_rows import distinct_names, join_datasets
from chexvision.data.node_share import Nodes
from chexvision.data.rows import Rows
from chexvision.data.source import ShardSource, check_image_size, check_named, find_shards, preprocessing_of
from chexvision.errors import UsageError
from chexvision.files.json_files import first_problem
from chexvision.hub.reference import Reference, RepoRef, parse_reference, short_names
from chexvision.images.preprocessing import Preprocessing
from chexvision.labels import LabelSpace, union
from chexvision.metrics.predictions import images_sha256
from chexvision.shards.schema import SPLITS
from chexvision.shards.split_rule import SplitPart, SplitRecord


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set of a run.

    Args:
        name: short, and unique in the run.
        weight: of `DatasetConfig`.
        config: what the recipe says about it alone.
        source: the shards.
        division: how they are divided.
    """

    name: str
    weight: float
    config: DataConfig
    source: ShardSource
    division: Division


@dataclass(frozen=True, slots=True)
class RunData:
    """The data sets of a run, and how a recipe mixes them.

    Args:
        datasets: at least one.
        config: of the recipe.
    """

    datasets: tuple[Dataset, ...]
    config: DataConfig

    @property
    def is_mixture(self) -> bool:
        """Whether there are several."""
        return len(self.datasets) > 1

    @property
    def name(self) -> str:
        """In records: the data set's, or the short names of a mixture's."""
        return mixture_name([one.name for one in self.datasets]) if self.is_mixture else self.datasets[0].source.name

    @property
    def identity(self) -> str:
        """The shards', or a digest of those of a mixture in its order."""
        identities = [one.source.identity for one in self.datasets]
        return hashlib.sha256("\n".join(identities).encode()).hexdigest() if self.is_mixture else identities[0]

    @property
    def synthetic(self) -> bool:
        """Whether all images are synthetic."""
        return all(one.source.synthetic for one in self.datasets)

    @property
    def label_space(self) -> LabelSpace:
        """The findings of all data sets, in the order in which these are named."""
        return union([one.source.label_space for one in self.datasets])

    @property
    def record(self) -> SplitRecord:
        """How the images are divided; of a mixture, what there is of each split in all data sets together."""
        if not self.is_mixture:
            return self.datasets[0].division.record
        parts = {}
        for split in SPLITS:
            rows = [one.division.rows[split] for one in self.datasets]
            if images := sum(map(len, rows)):
                names = [distinct_names(one.name, of) for one, of in zip(self.datasets, rows, strict=True)]
                patients = sum(len(np.unique(of.patients)) for of in rows)
                sha256 = images_sha256(np.concatenate(names).tolist())
                parts[split] = SplitPart(images=images, patients=patients, images_sha256=sha256)
        return SplitRecord(rule="mixture", parts=parts)

    def trained_on(self, train: Split) -> tuple[TrainedOn, ...]:
        """The records of a mixture's data sets; none of one data set."""
        if not self.is_mixture:
            return ()
        return tuple(
            TrainedOn(
                name=one.name,
                dataset=one.source.name,
                dataset_identity=one.source.identity,
                synthetic=one.source.synthetic,
                findings=one.source.label_space.findings,
                split=one.division.record,
                weight=one.weight,
                train_images=len(part.rows),
                images_per_epoch=part.per_epoch * (2 if train.mirror else 1),
                **dict(_terms(one.source) or DataTerms()),
            )
            for one, part in zip(self.datasets, train.parts, strict=True)
        )

    @property
    def terms(self) -> DataTerms | None:
        """Those of one data set; a mixture's are in `trained_on`."""
        return None if self.is_mixture else _terms(self.datasets[0].source)

    def preprocessing(self, like: Preprocessing | None = None) -> Preprocessing:
        """The steps from an original to the training image; see `preprocessing_of`.

        Where shards of a mixture have images of several sizes, all are reduced to the smallest one first: the size
        would else tell the data sets apart.

        Raises:
            UsageError: `config.image_size` is above the size of some shards' images.
            ChexError: a shard cannot be read.
        """
        steps = [preprocessing_of(one.source, self.config, like) for one in self.datasets]
        sizes = [one.shard_size for one in steps]
        known = [size for size in sizes if size is not None]
        return steps[0].model_copy(update={"shard_size": min(known) if len(known) == len(sizes) else None})

    def open(self, seed: int, quiet: bool = False, nodes: Nodes | None = None) -> dict[str, Split]:
        """The decoded splits that have images, sampled as the recipe asks for each data set.

        Args:
            seed: of the run.
            quiet: show no progress.
            nodes: the machines that the training images are divided among, if they are.

        Raises:
            UsageError: the images are to be larger than the shards', or a data set would have no image in an epoch.
            ChexError: the disk is too full, or an image in a shard cannot be read.
        """
        rows = [one.division.sampled(one.config, seed) for one in self.datasets]
        return {
            name: self._open(name, [of[name] for of in rows], quiet, nodes if name == "train" else None)
            for name in sorted(rows[0])
            if any(len(of[name]) for of in rows)
        }

    def _open(self, name: str, rows: Sequence[Rows], quiet: bool, nodes: Nodes | None) -> Split:
        share = nodes.share([len(of) for of in rows]) if nodes else None
        if share is not None and not len(share.held):
            raise UsageError(f"{self.name} has fewer training images than machines train on them")
        if not self.is_mixture:
            (one,) = self.datasets
            here = nodes.held(rows[0]) if nodes else rows[0]
            split = open_split(one.source, {name: here}, name, self.config, quiet)
            part = Part(one.name, one.source, rows[0], 0, len(rows[0]))
            return replace(split, rows=rows[0], parts=(part,), node_share=share)
        preprocessing, parts, opened, begin = self.preprocessing(), list[Part](), list[Split](), 0
        counts = self._per_epoch([len(of) for of in rows]) if name == "train" else [len(of) for of in rows]
        for one, of, per_epoch in zip(self.datasets, rows, counts, strict=True):
            here = nodes.held(of) if nodes else of
            if len(of):
                parts.append(Part(one.name, one.source, of, begin, per_epoch))
                begin += len(of)
            if len(here):
                opened.append(open_split(one.source, {name: here}, name, self.config, quiet, preprocessing))
        joined = join_datasets({one.name: one.division for one in self.datasets}, rows)
        images = JoinedImages([np.asarray(split.images) for split in opened])
        return replace(opened[0], images=images, rows=joined, parts=tuple(parts), node_share=share)

    def _per_epoch(self, images: Sequence[int]) -> list[int]:
        counts = images_per_part(images, [one.weight for one in self.datasets], self.config.temperature)
        for one, count in zip(self.datasets, counts, strict=True):
            if not count:
                raise UsageError(
                    f"data.datasets: no image of {one.name} would be in an epoch of {sum(images):,}; raise its weight"
                )
        return counts


def _terms(source: ShardSource) -> DataTerms | None:
    """What shards record of the terms of their dataset."""
    dataset = source.manifest.dataset if source.manifest is not None else None
    if dataset is None or dataset.terms is None:
        return None
    terms = dataset.terms
    return DataTerms(
        title=terms.title,
        license=terms.license_name or terms.license,
        license_link=terms.license_link,
        credentialed=terms.credentialed,
        citation=terms.citation,
    )


def mixture_name(names: Sequence[str]) -> str:
    """What records call a mixture of data sets with these short names."""
    return " + ".join(names)


def find_data(config: DataConfig, data: Reference | None = None, used: UsedImages | None = None) -> RunData:
    """Locate and divide the data of a recipe, fetching what is on the Hub.

    Args:
        config: of the recipe.
        data: a data set in place of the recipe's.
        used: which images are used here; None for all.

    Raises:
        UsageError: a data set is not pinned, is empty, is divided by a rule for other images, leaves nothing to train
            on or to validate on; or label sets contradict each other.
        ChexError: a download failed, a shard is not valid, or two splits share a patient.
    """
    datasets = list[Dataset]()
    for name, reference, one in _named(config, data):
        alone = config.alone(one)
        source = find_shards(reference, used.shards(name, alone) if used else None)
        division = used.divisions[name] if used else division_of(source, alone)
        twice = next((other for other in datasets if other.source.identity == source.identity), None)
        if twice is not None:
            raise UsageError(f"data.datasets: {name} has the same shards as {twice.name}; give one of them a weight")
        datasets.append(Dataset(name, one.weight, alone, source, division))
    _check_union({one.name: one.source.label_space for one in datasets})
    return RunData(tuple(datasets), config)


def check_run_data(
    config: DataConfig, data: Reference | None = None, needed: Collection[int] | None = None
) -> dict[str, Division]:
    """Check that the data of a recipe fits it, before it is downloaded; see `find_data`.

    Args:
        config: of the recipe.
        data: a data set in place of the recipe's.
        needed: of `divide_data`.

    Returns:
        How each data set is divided, by its short name.
    """
    found = {}
    for name, reference, one in _named(config, data):
        found[name] = check_data(reference, config.alone(one), needed)
        check_image_size(reference, config, needed)
    _check_union({name: of.rows["train"].label_space for name, of in found.items()})
    return found


def check_names(config: DataConfig, data: Reference | None = None) -> None:
    """Check, before anything is loaded or fetched, that the data of a recipe can be shards; see `check_named`.

    Raises:
        UsageError: a data set can be none, or is named twice.
    """
    for _, reference, _ in _named(config, data):
        check_named(reference)


def _named(config: DataConfig, data: Reference | None) -> list[tuple[str, Reference, DatasetConfig]]:
    """The short name, place and settings of each data set."""
    if data is not None:
        return [(str(data), data, DatasetConfig(name=str(data)))]
    references = [parse_reference(one.name) for one in config.named]
    texts = [of.repo_id if isinstance(of, RepoRef) else of.resolve().as_posix() for of in references]
    twice = next((text for number, text in enumerate(texts) if text in texts[:number]), None)
    if twice is not None:
        raise UsageError(f"data.datasets: {twice} is named twice, in other words; name it once, with a weight")
    short = [name.replace("/", "-") for name in short_names(texts)]
    return list(zip(short, references, config.named, strict=True))


def _check_union(spaces: Mapping[str, LabelSpace]) -> None:
    try:
        union(list(spaces.values()))
    except ValidationError as error:
        raise UsageError(
            f"the label sets of {', '.join(spaces)} cannot be one: {first_problem(error)}; rename a finding with a "
            "label map"
        ) from None
