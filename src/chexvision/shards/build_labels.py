"""Which images shards are built from, with their labels and splits: the release's metadata, or one's own table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from chexvision.errors import UsageError
from chexvision.files.atomic import sha256_of
from chexvision.images.sources import Index, find_images, flat_name
from chexvision.label_maps.label_map import label_map_path, read_label_map
from chexvision.label_maps.labeled_images import LabeledImage, read_labeled_images
from chexvision.labels import NIH, UNCERTAIN, LabelSpace
from chexvision.nih.metadata import Entry, read_metadata
from chexvision.shards.manifest import BadImage, Source, SplitRule
from chexvision.shards.split import split_by_patient, split_for_build


@dataclass(frozen=True, slots=True)
class BuildLabels:
    """What is known of the images before they are read.

    Args:
        source: for the manifest.
        space: the label set.
        index: the image files.
        entries: by the names of `index`.
        rule: how patients were divided.
        table: the split of each patient.
        missing: images that one's own table names and that are not there. Those that it does not name are left out.
    """

    source: Source
    space: LabelSpace
    index: Index
    entries: dict[str, Entry]
    rule: SplitRule
    table: dict[int, str]
    missing: tuple[BadImage, ...] = ()

    @property
    def open_labels(self) -> bool:
        """Whether some label is uncertain or unknown."""
        return any(entry.uncertain or entry.unknown for entry in self.entries.values())


def read_build_labels(
    images: list[Path], metadata: Path, label_map: str | None, split: str | None, seed: int
) -> BuildLabels:
    """Read the metadata and list the images.

    Args:
        images: folders or archives.
        metadata: the release's, or one's own table if there is a map.
        label_map: see `read_label_map`; None for the release's metadata.
        split: see `split_for_build`; of one's own table None or "patient".
        seed: of the split.

    Raises:
        UsageError: an input is missing or not valid.
        ChexError: an archive is damaged.
    """
    if label_map is not None:
        return _of_own_table(images, metadata, label_map, split, seed)
    entries = read_metadata(metadata)
    index = find_images(images)
    patients = {entries[found.name].patient_id for found in index.images if found.name in entries}
    folders = [folder for place in (*images, metadata) for folder in (place, place.parent)]
    rule, table = split_for_build(split, seed, folders, patients)
    return BuildLabels(Source("radiographs", metadata.name, sha256_of(metadata)), NIH, index, entries, rule, table)


def _of_own_table(images: list[Path], labels: Path, label_map: str, split: str | None, seed: int) -> BuildLabels:
    if split not in (None, "patient"):
        raise UsageError(f"--split {split} is for the release; with --labels name a column with split: in the map")
    space, listed = read_labeled_images(labels, read_label_map(label_map))
    by_path = any("/" in one.image for one in listed)
    named = {flat_name(one.image): one for one in listed}
    if len(named) < len(listed):
        raise UsageError(f"{labels} names two images whose paths differ only in / and __; rename one")
    index = find_images(images, by_path=by_path)
    names = {found.name for found in index.images}
    missing = [BadImage(name, f"not found ({one.where})") for name, one in named.items() if name not in names]
    if len(missing) == len(named):
        raise UsageError(
            f"none of the {len(named):,} images of {labels} is in {', '.join(map(str, images))}, first "
            f"{listed[0].image}; name the folder that its paths start from, or their ending with suffix: in the map"
        )
    kept = Index(
        tuple(found for found in index.images if found.name in named),
        tuple(found for found in index.duplicates if found.name in named),
    )
    entries = {name: _entry(one, space) for name, one in named.items()}
    if listed[0].split is None or split == "patient":
        rule = SplitRule("patient", seed)
        table = split_by_patient((entries[found.name].patient_id for found in kept.images), seed)
    else:
        rule = SplitRule(labels.name, seed, sha256_of(labels))
        table = {one.patient: one.split for one in listed if one.split is not None}
    source = Source("radiographs", labels.name, sha256_of(labels, label_map_path(label_map)))
    return BuildLabels(source, space, kept, entries, rule, table, tuple(missing))


def _entry(one: LabeledImage, space: LabelSpace) -> Entry:
    by_finding = dict(zip(space.findings, one.values, strict=True))
    uncertain = [name for name, value in by_finding.items() if value == UNCERTAIN]
    unknown = [name for name, value in by_finding.items() if math.isnan(value)]
    return Entry(
        labels="|".join(space.named(one.values)),
        patient_id=one.patient,
        age=one.age,
        sex=one.sex,
        view=one.view,
        follow_up=None,
        original_width=None,
        original_height=None,
        uncertain="|".join(uncertain) or None,
        unknown="|".join(unknown) or None,
    )
