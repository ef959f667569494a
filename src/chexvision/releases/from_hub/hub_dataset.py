"""Any dataset on the Hub with a column of images and labels, as its rows and a label map describe it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import TypeAdapter, ValidationError

from chexvision.errors import ChexError, UsageError
from chexvision.files.json_files import first_problem
from chexvision.images.sources import Found, Index, flat_name
from chexvision.label_maps.label_map import LabelMap, label_map_path, read_label_map
from chexvision.label_maps.labeled_images import SPLITS, labeled_images
from chexvision.label_maps.table_rows import TableRow
from chexvision.nih.metadata import Entry
from chexvision.nih.patients import SPLITS as SHARD_SPLITS
from chexvision.releases.from_hub.hub_card import ShardsManifest, manifest_of, terms_of
from chexvision.releases.from_hub.hub_cells import (
    Features,
    VectorCheck,
    column_part,
    image_column,
    listed,
    needed_columns,
    row_cells,
)
from chexvision.releases.from_hub.hub_stream import HubImages, HubSource, file_rows, open_streams
from chexvision.releases.image_entry import entry_of
from chexvision.releases.located import LATERAL, LATERAL_LEFT_OUT, without_laterals
from chexvision.releases.map_terms import terms_of_map
from chexvision.releases.release import Reading, Release, Views

_NAME, _SPLIT = "(name)", "(split)"  # heads of columns that are added to those of the dataset
_ENTRY = TypeAdapter(Entry)
_Row: TypeAlias = tuple[str, str, dict[str, Any]]  # the dataset's split, member of `HubImages`, columns


def read_hub(reading: Reading) -> Release:
    """Read the labels of a dataset on the Hub; the images are streamed when shards are built.

    Shards of this project need no label map. Without a column of patients every image is a patient of its own.

    Raises:
        UsageError: it is not named with a commit, or its columns do not fit the map.
        ChexError: the Hub does not have it, or does not answer, or a file is damaged.
    """
    source = HubSource.parse(reading.dataset.partition(":")[2])
    streams = open_streams(source, sparse=True)
    features = next(iter(streams.values())).features or {}
    label_map = None if reading.label_map is None else read_label_map(reading.label_map)
    images = HubImages(source, image_column(features, label_map, source))
    if label_map is not None and reading.label_map is not None:
        return _of_map(images, features, [*streams], label_map, reading)
    manifest = manifest_of(source)
    if manifest is None or not {"filename", "labels", "patient_id"} <= features.keys():
        raise UsageError(
            f"{source} needs --map FILE.yaml, a label map that says what its columns mean: {listed(features)}"
        )
    return _of_shards(images, features, manifest, reading.views)


def _of_shards(images: HubImages, features: Features, manifest: ShardsManifest, views: Views) -> Release:
    """Shards of this project, whose columns are those of `Entry`."""
    source, known = images.source, [field.name for field in fields(Entry)]
    found: dict[str, Found] = {}
    duplicates: list[Found] = []
    entries: dict[str, Entry] = {}
    splits: dict[int, str] = {}
    left_out: Counter[str] = Counter()
    for split, member, row in _rows(source, ["filename", *(name for name in known if name in features)]):
        try:
            entry = _ENTRY.validate_python({name: row.get(name) for name in known})
        except ValidationError as error:
            raise ChexError(f"{source}, {member}: {first_problem(error)}") from None
        if split not in SHARD_SPLITS:
            raise UsageError(f"{source} has the split {split!r}, which shards of this project do not have")
        if views == "frontal" and entry.view == LATERAL:
            left_out[LATERAL_LEFT_OUT] += 1
            continue
        image = Found(str(row["filename"]), images, member)
        if found.setdefault(image.name, image) is not image:
            duplicates.append(image)
            continue
        entries[image.name] = entry
        if splits.setdefault(entry.patient_id, split) != split:
            raise UsageError(f"{source}, {member}: its patient is also in split {splits[entry.patient_id]}")
    if not found:
        raise UsageError(f"{source} has no {'frontal images; add --views all' if left_out else 'rows'}")
    return Release(
        space=manifest.label_space,
        index=Index(tuple(found.values()), tuple(duplicates)),
        entries=entries,
        tables=(),
        splits=splits,
        left_out=tuple(left_out.items()),
        knows_patients=manifest.dataset is None or manifest.dataset.knows_patients,
        source_name=str(source),
        terms=terms_of(source),
        synthetic=manifest.synthetic,
    )


def _of_map(
    images: HubImages, features: Features, names: Sequence[str], label_map: LabelMap, reading: Reading
) -> Release:
    """The rows as those of a table."""
    source = images.source
    if label_map.join is not None:
        raise UsageError(f"label map {label_map.name} joins a second table, which a dataset on the Hub does not have")
    heads = needed_columns(label_map, features, images.column, source)
    own_splits = not label_map.split and len(names) > 1
    odd = next((name for name in names if name.casefold() not in SPLITS), None)
    if own_splits and odd is not None:
        raise UsageError(
            f"{source} has the split {odd!r}, which is not train, validation or test; name a column with split: in "
            "the label map"
        )
    rows, members = _table_rows(source, heads, features, label_map)
    is_named = label_map.image_path is not None or any(head in heads for head in label_map.image)
    changed = {"split": (_SPLIT,)} if own_splits else {}
    changed |= {} if is_named else {"image": (_NAME,)}
    space, listed_images = labeled_images(rows, label_map.model_copy(update=changed), Path(str(source)))
    found: dict[str, Found] = {}
    entries: dict[str, Entry] = {}
    member_of = {one.image: member for one, member in zip(listed_images, members, strict=True)}
    listed_images, left_out = without_laterals(listed_images, reading.views, source)
    for one in listed_images:
        name = flat_name(one.image)
        if name in found:
            raise UsageError(f"{one.where} names an image whose path differs from another's only in / and __")
        found[name] = Found(name, images, member_of[one.image])
        entries[name] = entry_of(space, one.values, one.patient, age=one.age, sex=one.sex, view=one.view)
    splits = {one.patient: one.split for one in listed_images if one.split is not None}
    terms = terms_of(source)
    return Release(
        space=space,
        index=Index(tuple(found.values()), ()),
        entries=entries,
        tables=(label_map_path(reading.label_map or ""),),
        splits=splits or None,
        without_validation={*splits.values()} == {"train", "test"},
        numbered=True,
        left_out=left_out,
        knows_patients=label_map.names_patients,
        source_name=str(source),
        terms=replace(terms, credentialed=terms.credentialed or terms_of_map(label_map) is not None),
    )


def _table_rows(
    source: HubSource, heads: Sequence[str], features: Features, label_map: LabelMap
) -> tuple[list[TableRow], list[str]]:
    """The rows that the map keeps, and where their images are: members of `HubImages`."""
    columns = [*dict.fromkeys(part[0] for head in heads if (part := column_part(head, features)) is not None)]
    rows: list[TableRow] = []
    members: list[str] = []
    labels = label_map.labels or ""
    vectors = VectorCheck(labels, features.get(labels))
    for split, member, row in _rows(source, columns):
        cells = row_cells(row, heads, features, label_map, where := f"{source}, {member}")
        vectors.see(row.get(labels))
        if all(cells[column] in kept for column, kept in label_map.keep.items()):
            rows.append(TableRow(where, cells | {_NAME: f"{member.replace('/', '-')}.png", _SPLIT: split}))
            members.append(member)
    vectors.check(source)
    if not rows:
        raise UsageError(f"{source} has no rows{' that the label map keeps' if label_map.keep else ''}")
    return rows, members


def _rows(source: HubSource, columns: Sequence[str]) -> Iterator[_Row]:
    streams = open_streams(source, columns, sparse=True)
    for split, stream in streams.items():
        for file in range(stream.num_shards):
            for row, values in file_rows(source, streams, split, file):
                yield split, f"{split}/{file}/{row}", values
