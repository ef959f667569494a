"""Raw radiographs to Parquet shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import cv2
import pyarrow as pa

from chexvision import __version__
from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic_folder import atomic_folder
from chexvision.images.radiograph import Encoding, encode_grey, expected_bytes, resize_area
from chexvision.images.reading import read_radiograph
from chexvision.images.sources import Found, read_images
from chexvision.labels import LabelSpace
from chexvision.nih.metadata import Entry
from chexvision.parallel import in_rank_order, map_in_order
from chexvision.progress import Progress
from chexvision.releases.release import Reading, Views
from chexvision.releases.terms import check_private
from chexvision.shards.build_labels import BuildLabels, read_build_labels
from chexvision.shards.dataset_card import write_card
from chexvision.shards.ledger import LEDGER_NAME, Ledger, LeftOut, open_ledger
from chexvision.shards.manifest import (
    FORMAT,
    BadImage,
    ImpossibleAge,
    Manifest,
    ShardEntry,
    SplitCounts,
    check_replaceable,
    read_manifest,
    write_manifest,
)
from chexvision.shards.schema import SPLITS, Columns, Row
from chexvision.shards.writer import Finished, ShardWriter, WriterOptions


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
    dataset: str = "nih"  # of `chexvision.releases.sets.SETS`
    label_map: str | None = None  # of sets without one of their own, see `read_label_map`
    views: Views = "frontal"  # "all": laterals too
    public: bool = False  # whether the shards are pushed to where everybody sees them


class Stopped(ChexError):
    """A build was stopped early; its finished shards are kept."""


class BuildSession(Protocol):
    """Receives the progress of a build, and may stop it early."""

    def should_stop(self) -> bool:
        """Called at each image."""

    def begins(self, images: int, ledger: Ledger) -> None:
        """Of `images` in all, those of `ledger` are done."""

    def finished(self, ledger: Ledger) -> None:
        """The last shard of `ledger` is closed; it is in the folder of the unfinished build."""


def build_shards(
    images: list[Path], metadata: Path | None, out: Path, options: BuildOptions, session: BuildSession | None = None
) -> Manifest:
    """Build the shard folder `out`; equal inputs and options give equal bytes for any number of workers.

    Images that cannot be used are listed in the manifest.

    Args:
        images: folders in the release's layout, or archives.
        metadata: the release's table or the folder with its tables, or one's own table; None: looked for next to the
            images.
        out: the folder to make.
        options: everything else.
        session: with one, finished shards are kept in the folder ``OUT.partial`` if the build is interrupted,
            and another call with the same libraries continues after them; the bytes are the same. A finished `out`
            is returned as it is.

    Raises:
        UsageError: an input is missing or not valid, `out` may not be replaced, or the set must not be public.
        ChexError: too many images are bad, an archive is damaged, or the disk is full. Without a session
            no files are left.
        Stopped: the session asked for it.
    """
    if session is None:
        check_replaceable(out, overwrite=options.overwrite)
    reading = Reading(options.dataset, tuple(images), metadata, options.label_map, options.views, options.size)
    labels = read_build_labels(reading, options.split, options.seed)
    if options.public:
        check_private(labels.dataset.terms, "--to", private=False)
    source, rule = labels.source, labels.rule
    total = len(labels.index.images) + len(labels.index.duplicates) + len(labels.missing)
    usable, bad = _sort_out(labels)
    unusable = len(bad)
    _check_bad(bad, total, options.max_bad)
    built = read_manifest(out) if session is not None else None
    if built is not None:
        made = (built.source, built.split, built.size, built.encoding, built.images + len(built.bad))
        same = built.dataset in (None, labels.dataset)  # formats before 3 do not name it
        if not same or made != (source, rule, options.size, options.encoding, total):
            raise UsageError(f"{out} contains shards of other images or options; name another folder to work in")
        return built
    needed = expected_bytes(len(usable), options.size, options.encoding)
    check = partial(check_replaceable, out, overwrite=options.overwrite)
    kept = session is not None
    with atomic_folder(out, check=check, needed_bytes=needed, exit_on_sigterm=not kept, kept=kept) as folder:
        key = _key(labels, usable, options)
        shards, splits = _write_shards(folder, key, labels, usable, bad, total, options, session)
        if not shards:
            raise ChexError(f"none of {total} images is usable; the first: {bad[0].name}: {bad[0].reason}")
        manifest = Manifest(
            format=FORMAT,
            chexvision=__version__,
            source=source,
            split=rule,
            size=options.size,
            encoding=options.encoding,
            splits=splits,
            shards=shards,
            files=(),
            bad=tuple(sorted(bad, key=lambda image: (image.name, image.reason))),
            impossible_ages=_impossible_ages(usable, bad[unusable:]),
            label_space=labels.space,
            dataset=labels.dataset,
            left_out=labels.left_out,
        )
        write_manifest(folder, manifest)
        write_card(folder, manifest)
    (out / LEDGER_NAME).unlink(missing_ok=True)
    return manifest


@dataclass(frozen=True, slots=True)
class _Item:
    """An image that has labels and a split."""

    found: Found
    entry: Entry
    split: str
    labels: tuple[float, ...]  # `LabelSpace.values`


def _sort_out(known: BuildLabels) -> tuple[list[_Item], list[BadImage]]:
    """The images with labels and a split, in reading order, and the others."""
    bad = [
        BadImage(_text(found.name), f"a second file of this name: {_text(found.member)}")
        for found in known.index.duplicates
    ]
    bad += known.missing
    usable: list[_Item] = []
    for found in known.index.images:
        entry = known.entries.get(found.name)
        if entry is None:
            bad.append(BadImage(_text(found.name), "unlabelled: not in the metadata"))
            continue
        try:
            labels = known.space.values(entry.labels, entry.uncertain, entry.unknown)
        except ValueError as error:
            bad.append(BadImage(found.name, str(error) if entry.labels else "unlabelled: its labels are empty"))
            continue
        if entry.patient_id not in known.table:
            bad.append(BadImage(found.name, f"patient {entry.patient_id} is in no split"))
        else:
            usable.append(_Item(found, entry, known.table[entry.patient_id], labels))
    return usable, bad


def _impossible_ages(usable: list[_Item], undecoded: list[BadImage]) -> tuple[ImpossibleAge, ...]:
    left_out = {image.name for image in undecoded}
    ages = ((item.found.name, item.entry.impossible_age) for item in usable)
    return tuple(sorted(ImpossibleAge(name, age) for name, age in ages if age is not None and name not in left_out))


def _text(name: str) -> str:
    """A file name as UTF-8; Python reads bytes that are not UTF-8 as surrogates."""
    return name.encode("utf-8", "backslashreplace").decode()


def _key(labels: BuildLabels, usable: list[_Item], options: BuildOptions) -> str:
    """A digest of everything that determines the shards' bytes, except the pixels."""
    determining = [
        FORMAT,
        [__version__, pa.__version__, cv2.__version__],
        asdict(labels.source),
        [labels.dataset.name, labels.dataset.views],
        asdict(labels.rule),
        [options.size, options.encoding, options.shard_bytes],
        sorted((item.found.name, item.split) for item in usable),
    ]
    return hashlib.sha256(json.dumps(determining, sort_keys=True).encode()).hexdigest()


def _write_shards(
    folder: Path,
    key: str,
    labels: BuildLabels,
    usable: list[_Item],
    bad: list[BadImage],
    total: int,
    options: BuildOptions,
    session: BuildSession | None,
) -> tuple[tuple[ShardEntry, ...], dict[str, SplitCounts]]:
    """Write the shards that `folder` lacks, adding images that cannot be used to `bad`."""
    ledger = open_ledger(folder, key)
    last, left_out = ledger.last, list(ledger.left_out)
    done = [item for item in usable if item.split in last and item.found.name <= last[item.split]]
    rest = [item for item in usable if item.split not in last or item.found.name > last[item.split]]
    bad += [one.image for one in left_out]
    _check_bad(bad, total, options.max_bad)

    def on_finished(finished: Finished) -> None:
        nonlocal ledger
        ledger = replace(ledger, finished=(*ledger.finished, finished), left_out=tuple(left_out))
        ledger.save(folder)
        if session is not None:
            session.finished(ledger)

    if session is not None:
        session.begins(len(usable), ledger)
    shards = {split: ledger.of(split) for split in SPLITS}
    columns = Columns(labels.open_labels, labels.dataset.studies)
    how = WriterOptions(options.shard_bytes, labels.space, columns, on_finished)
    with (
        ShardWriter(folder, how, shards) as writer,
        Progress("building", len(usable), "images", len(done)) as progress,
    ):
        unusable = {one.image.name for one in left_out}
        for item in done:
            if item.found.name not in unusable:
                writer.count(item.split, item.entry.patient_id, item.labels)
        for item, outcome in _encoded(rest, labels.space, options, folder / "spill"):
            if session is not None and session.should_stop():
                raise Stopped(f"the build was stopped; {ledger.rows:,} images are in finished shards")
            if isinstance(outcome, BadImage):
                left_out.append(LeftOut(item.split, outcome))
                bad.append(outcome)
                _check_bad(bad, total, options.max_bad)
            else:
                writer.add(item.split, outcome)
            progress.advance(1)
        return writer.close()


def _check_bad(bad: list[BadImage], total: int, max_bad: float) -> None:
    if len(bad) <= max_bad * total:
        return
    shown = "; ".join(f"{image.name}: {image.reason}" for image in bad[:3])
    raise ChexError(
        f"{len(bad)} of {total} images are bad, more than --max-bad {max_bad:g} allows: {shown}"
        f"{'; …' if len(bad) > 3 else ''}; fix them or raise --max-bad"
    )


def _encoded(
    items: list[_Item], space: LabelSpace, options: BuildOptions, spill: Path
) -> Iterator[tuple[_Item, Row | BadImage]]:
    """Decode, average and encode on all workers; results are ordered by file name."""
    by_name = sorted(items, key=lambda item: item.found.name)
    ranked = {item.found: (rank, item) for rank, item in enumerate(by_name)}
    sources = ((*ranked[found], load) for found, load in read_images([item.found for item in items]))
    work = partial(_encode, size=options.size, encoding=options.encoding, any_view=options.views == "all")
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
                    labels="|".join(space.named(item.labels)),
                    uncertain=entry.uncertain,
                    unknown=entry.unknown,
                    patient_id=entry.patient_id,
                    age=entry.age,
                    sex=entry.sex,
                    view=entry.view,
                    study_id=entry.study_id,
                    follow_up=entry.follow_up,
                    original_width=entry.original_width,
                    original_height=entry.original_height,
                ),
            )
    spill.unlink()


def _encode(
    source: tuple[int, _Item, Callable[[], bytes]], size: int, encoding: Encoding, any_view: bool
) -> tuple[int, tuple[_Item, str | None], bytes]:
    rank, item, load = source
    try:
        data = encode_grey(resize_area(read_radiograph(load(), any_view=any_view).pixels, size), encoding)
    except ValueError as error:
        return rank, (item, str(error)), b""
    except OSError as error:
        return rank, (item, f"cannot be read: {error.strerror or error}"), b""
    return rank, (item, None), data
