"""Raw radiographs to Parquet shards."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from chexvision import __version__
from chexvision.errors import ChexError, UsageError
from chexvision.labels import format_labels, parse_labels
from chexvision.progress import Progress
from chexvision.radiograph import decode_grey, resize_area
from chexvision.shards.card import write_card
from chexvision.shards.encode import Encoding, encode_grey, expected_bytes
from chexvision.shards.manifest import FORMAT, BadImage, Manifest, Source, SplitRule, write_manifest
from chexvision.shards.metadata import Entry, read_metadata
from chexvision.shards.order import in_rank_order
from chexvision.shards.parallel import map_in_order
from chexvision.shards.schema import Row
from chexvision.shards.sources import Found, Index, find_images, read_images
from chexvision.shards.split import (
    find_official_lists,
    read_split_table,
    split_by_patient,
    split_officially,
)
from chexvision.shards.staging import check_replaceable, staged_folder
from chexvision.shards.writer import ShardWriter


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How shards are built from radiographs."""

    split: str | None  # "official", "patient", a table's path, or None for what fits the images
    size: int  # side in pixels
    encoding: Encoding
    shard_bytes: int  # the most that a shard takes
    workers: int
    seed: int
    max_bad: float  # share of the images, 0 to 1
    overwrite: bool


def build_shards(images: list[Path], metadata: Path, out: Path, options: BuildOptions) -> Manifest:
    """Build the shard folder `out`; equal inputs and options give equal bytes, whatever the workers.

    Images that cannot be used are named on stderr and in the manifest.

    Args:
        images: folders in the release's layout, or archives.
        metadata: ``Data_Entry_2017*.csv``, plain or .gz.
        out: the folder to make.
        options: everything else.

    Raises:
        UsageError: an input is missing or not what it should be, or `out` may not be replaced.
        ChexError: too many images are bad, an archive is damaged, or the disk is full. Nothing is left.
    """
    check_replaceable(out, overwrite=options.overwrite)
    entries = read_metadata(metadata)
    index = find_images(images)
    total = len(index.images) + len(index.duplicates)
    rule, table = _choose_split(images, metadata, options, _patients(index, entries))
    usable, bad = _sort_out(index, entries, table)
    _check_bad(bad, total, options.max_bad)
    needed = expected_bytes(len(usable), options.size, options.encoding)
    with staged_folder(out, overwrite=options.overwrite, needed_bytes=needed) as folder:
        with (
            ShardWriter(folder, options.shard_bytes) as writer,
            Progress("building", len(usable), "images") as progress,
        ):
            for item, outcome in _encoded(usable, options, folder / "spill"):
                if isinstance(outcome, BadImage):
                    bad.append(outcome)
                    _check_bad(bad, total, options.max_bad)
                else:
                    writer.add(item.split, outcome)
                progress.advance(1)
            shards, splits = writer.close()
        if not shards:
            raise ChexError(f"none of {total} images is usable; the first: {bad[0].name}: {bad[0].reason}")
        manifest = Manifest(
            format=FORMAT,
            chexvision=__version__,
            source=Source("radiographs", metadata.name, _sha256(metadata)),
            split=rule,
            size=options.size,
            encoding=options.encoding,
            splits=splits,
            shards=shards,
            files=(),
            bad=tuple(sorted(bad, key=lambda image: (image.name, image.reason))),
        )
        write_manifest(folder, manifest)
        write_card(folder, manifest)
    return manifest


@dataclass(frozen=True, slots=True)
class _Item:
    """An image that has labels and a split; `rank` is its place by file name."""

    rank: int
    found: Found
    entry: Entry
    split: str


def _choose_split(
    places: list[Path], metadata: Path, options: BuildOptions, patients: set[int]
) -> tuple[SplitRule, dict[int, str]]:
    lists = find_official_lists([folder for place in (*places, metadata) for folder in (place, place.parent)])
    name = options.split or ("official" if lists else "patient")
    if name == "patient":
        return SplitRule(name, options.seed), split_by_patient(patients, options.seed)
    if name == "official":
        if lists is None:
            raise UsageError(
                "--split official needs train_val_list.txt and test_list.txt beside the images; "
                "put them there or choose --split patient"
            )
        return SplitRule(name, options.seed, _sha256(*lists)), split_officially(*lists, options.seed)
    path = Path(name).expanduser()
    if not path.is_file():
        raise UsageError(f"--split {name!r} is neither 'official' nor 'patient' nor a file with patient_id,split")
    return SplitRule(path.name, options.seed, _sha256(path)), read_split_table(path)


def _patients(index: Index, entries: dict[str, Entry]) -> set[int]:
    return {entries[found.name].patient_id for found in index.images if found.name in entries}


def _sort_out(index: Index, entries: dict[str, Entry], table: dict[int, str]) -> tuple[list[_Item], list[BadImage]]:
    """The images with labels and a split, in reading order, and the others."""
    bad = [BadImage(found.name, f"a second file of this name: {found.member}") for found in index.duplicates]
    usable: list[tuple[Found, Entry, str]] = []
    for found in index.images:
        entry = entries.get(found.name)
        if entry is None:
            bad.append(BadImage(found.name, "unlabelled: not in the metadata"))
        elif problem := _label_problem(entry.labels):
            bad.append(BadImage(found.name, problem))
        elif entry.patient_id not in table:
            bad.append(BadImage(found.name, f"patient {entry.patient_id} is in no split"))
        else:
            usable.append((found, entry, table[entry.patient_id]))
    ranks = {name: rank for rank, name in enumerate(sorted(found.name for found, _, _ in usable))}
    return [_Item(ranks[found.name], found, entry, split) for found, entry, split in usable], bad


def _label_problem(labels: str) -> str | None:
    if not labels:
        return "unlabelled: its labels are empty"
    try:
        parse_labels(labels)
    except ValueError as error:
        return str(error)
    return None


def _check_bad(bad: list[BadImage], total: int, max_bad: float) -> None:
    if len(bad) <= max_bad * total:
        return
    shown = "; ".join(f"{image.name}: {image.reason}" for image in bad[:3])
    raise ChexError(
        f"{len(bad)} of {total} images are bad, more than --max-bad {max_bad:g} allows: {shown}"
        f"{'; …' if len(bad) > 3 else ''}; mend them or raise --max-bad"
    )


def _encoded(items: list[_Item], options: BuildOptions, spill: Path) -> Iterator[tuple[_Item, Row | BadImage]]:
    """Decode, average and encode on all workers; results come by file name."""
    by_file = {item.found: item for item in items}
    sources = ((by_file[found], load) for found, load in read_images([item.found for item in items]))
    work = partial(_encode, size=options.size, encoding=options.encoding)
    with spill.open("w+b") as file:
        for (item, problem), data in in_rank_order(map_in_order(work, sources, options.workers), file):
            name, entry = item.found.name, item.entry
            if problem:
                yield item, BadImage(name, problem)
                continue
            yield (
                item,
                Row(
                    image=data,
                    filename=name,
                    labels=format_labels(parse_labels(entry.labels)),
                    patient_id=entry.patient_id,
                    age=entry.age,
                    sex=entry.sex,
                    view=entry.view,
                    follow_up=entry.follow_up,
                    original_width=entry.original_width,
                    original_height=entry.original_height,
                ),
            )
    spill.unlink()


def _encode(
    source: tuple[_Item, Callable[[], bytes]], size: int, encoding: Encoding
) -> tuple[int, tuple[_Item, str | None], bytes]:
    item, load = source
    try:
        data = encode_grey(resize_area(decode_grey(load()), size), encoding)
    except ValueError as error:
        return item.rank, (item, str(error)), b""
    except OSError as error:
        return item.rank, (item, f"cannot be read: {error.strerror or error}"), b""
    return item.rank, (item, None), data


def _sha256(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()
