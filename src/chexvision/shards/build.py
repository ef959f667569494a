"""Raw radiographs to Parquet shards."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Protocol, TypeAlias

from chexvision import __version__
from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import write_text_atomic
from chexvision.files.atomic_folder import atomic_folder
from chexvision.files.remote_folder import RemoteFolder
from chexvision.images.radiograph import Encoding, expected_bytes
from chexvision.images.remote_images import RemoteImages
from chexvision.progress import Progress
from chexvision.releases.release import Reading, Views
from chexvision.releases.terms import check_private
from chexvision.shards.build_labels import SetFacts, read_build_labels, sort_out
from chexvision.shards.dataset_card import write_card
from chexvision.shards.manifest import (
    FORMAT,
    MANIFEST_NAME,
    BadImage,
    ImpossibleAge,
    Manifest,
    check_replaceable,
    read_manifest,
    write_manifest,
)
from chexvision.shards.planned.counts import SplitCounter
from chexvision.shards.planned.ledger import FINISHED, Built, Ledger, open_ledger
from chexvision.shards.planned.make import Item, ShardRecipe, Work, make_shards
from chexvision.shards.planned.outputs import LocalOutput, Output, RemoteOutput
from chexvision.shards.planned.plan import PlannedShard, ShardSize, plan_shards
from chexvision.shards.schema import Columns


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How shards are built from radiographs."""

    split: str | None  # "official", "patient", a table's path, or None for what fits the images
    size: int  # side in pixels
    encoding: Encoding
    shard_bytes: int  # the most that a shard takes
    workers: int  # threads; on a cluster tasks at once, 0 for all CPUs
    seed: int
    max_bad: float  # share of the images, 0 to 1
    overwrite: bool
    dataset: str = "nih"  # of `chexvision.releases.sets.SETS`
    label_map: str | None = None  # of sets without one of their own, see `read_label_map`
    views: Views = "frontal"  # "all": laterals too
    public: bool = False  # whether the shards are pushed to where everybody sees them
    ignore_times: bool = False  # of local files: their size alone tells whether they have changed


class Stopped(ChexError):
    """A build was stopped early; its finished shards are kept."""


class BuildSession(Protocol):
    """Receives the progress of a build, and may stop it early."""

    def should_stop(self) -> bool:
        """Called at each image."""

    def begins(self, images: int, ledger: Ledger) -> None:
        """Of `images` in all, those of `ledger` are done."""

    def finished(self, ledger: Ledger) -> None:
        """The last shard of `ledger` is finished; it is in the folder of the unfinished build."""


Make: TypeAlias = Callable[[Work], Iterator[Built]]


def build_shards(
    images: list[Path],
    metadata: Path | None,
    out: Path | RemoteFolder,
    options: BuildOptions,
    session: BuildSession | None = None,
    *,
    make: Make = make_shards,
    kept: bool = False,
    remote: tuple[RemoteImages, ...] = (),
) -> Manifest:
    """Build the shard folder `out`; equal inputs and options give equal bytes for any number of workers.

    Images that cannot be used are listed in the manifest.

    Args:
        images: folders in the release's layout, or archives.
        metadata: the release's table or the folder with its tables, or one's own table; None: looked for next to the
            images.
        out: the folder to make. In a remote folder finished shards are always kept.
        options: everything else.
        session: with one, finished shards are kept in the folder ``OUT.partial`` if the build is interrupted,
            and another call with the same libraries continues after them; the bytes are the same. A finished `out`
            is returned as it is.
        make: makes the shards: on this machine, or elsewhere.
        kept: keep finished shards without a session too.
        remote: more images; the tables that are next to them are in a folder of `images`.

    Raises:
        UsageError: an input is missing or not valid, `out` may not be replaced, or the set may not be public.
        ChexError: too many images are bad, an archive is damaged, or the disk is full. Unless shards are kept, no
            files are left.
        Stopped: the session asked for it.
    """
    if isinstance(out, RemoteFolder):
        output = RemoteOutput(out)
        planned = _plan(images, remote, metadata, options)
        output.begin(overwrite=options.overwrite)
        manifest = _make_set(planned, output, make, session)
        output.end()
        return manifest
    out = out.expanduser()  # as `atomic_folder` does, so that the folder that is checked is the one that is replaced
    if session is None:
        check_replaceable(out, overwrite=options.overwrite)
    planned = _plan(images, remote, metadata, options)
    built = read_manifest(out) if session is not None else None
    if built is not None:
        _check_same(built, planned, out)
        return built
    needed = expected_bytes(planned.usable, options.size, options.encoding)
    check = partial(check_replaceable, out, overwrite=options.overwrite)
    kept = kept or session is not None
    with atomic_folder(out, check=check, needed_bytes=needed, exit_on_sigterm=not kept, kept=kept) as folder:
        manifest = _make_set(planned, LocalOutput(folder), make, session)
    shutil.rmtree(out / FINISHED, ignore_errors=True)
    if session is not None:
        write_text_atomic(_images_of(out), planned.images_sha256)
    return manifest


def _images_of(out: Path) -> Path:
    """The file next to a finished set that tells whether another call names the same images."""
    return out.with_name(f"{out.name}.images")


def _make_set(planned: _Plan, output: Output, make: Make, session: BuildSession | None) -> Manifest:
    """Make the shards that `output` lacks, then the files that describe them, the manifest last."""
    manifest = planned.manifest(_make_all(planned, output, make, session))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_manifest(folder, manifest)
        write_card(folder, manifest)
        names = sorted((path.name for path in folder.iterdir()), key=lambda name: name == MANIFEST_NAME)
        for name in names:
            output.write(name, (folder / name).read_text(encoding="utf-8"))
    return manifest


@dataclass(frozen=True, slots=True)
class _Plan:
    """A build before any pixel is read.

    Args:
        facts: what is known of the set.
        options: how to build.
        bad: the images that have no labels or no split.
        shards: of the others.
    """

    facts: SetFacts
    options: BuildOptions
    bad: tuple[BadImage, ...]
    shards: tuple[PlannedShard[Item], ...]

    @property
    def usable(self) -> int:
        """The images that have labels and a split."""
        return sum(len(shard.images) for shard in self.shards)

    @property
    def total(self) -> int:
        """All images that were named or found."""
        return self.usable + len(self.bad)

    @property
    def images_sha256(self) -> str:
        """Of names and stamps."""
        digest = hashlib.sha256()
        for item in self._items():
            digest.update(f"{item.name}\0{item.found.stamp}\0".encode(errors="surrogatepass"))
        return digest.hexdigest()

    @property
    def recipe(self) -> ShardRecipe:
        """How images become rows."""
        # Of these images alone, as the card has it: with other columns `datasets` would refuse the shards.
        open_labels = any(item.entry.uncertain or item.entry.unknown for item in self._items())
        columns = Columns(open_labels, self.facts.dataset.studies)
        options, facts = self.options, self.facts
        return ShardRecipe(options.size, options.encoding, options.views == "all", facts.space, columns, facts.source)

    def _items(self) -> Iterator[Item]:
        return chain.from_iterable(shard.images for shard in self.shards)

    def manifest(self, ledger: Ledger) -> Manifest:
        """Of the complete set."""
        entries = {one.shard.path: one.shard for one in ledger.finished}
        left_out = {image.name for image in ledger.bad}
        counter = SplitCounter(self.facts.space)
        ages: list[ImpossibleAge] = []
        for item in self._items():
            if item.name not in left_out:
                counter.add(item.split, item.entry.patient_id, item.labels)
                if item.entry.impossible_age is not None:
                    ages.append(ImpossibleAge(item.name, item.entry.impossible_age))
        return Manifest(
            format=FORMAT,
            chexvision=__version__,
            source=self.facts.source,
            split=self.facts.rule,
            size=self.options.size,
            encoding=self.options.encoding,
            splits=counter.counts,
            shards=tuple(entries[shard.path] for shard in self.shards),
            files=(),
            bad=tuple(sorted((*self.bad, *ledger.bad), key=lambda image: (image.name, image.reason))),
            impossible_ages=tuple(sorted(ages)),
            label_space=self.facts.space,
            dataset=self.facts.dataset,
            left_out=self.facts.left_out,
        )


def _plan(
    images: list[Path], remote: tuple[RemoteImages, ...], metadata: Path | None, options: BuildOptions
) -> _Plan:
    reading = Reading(
        options.dataset, tuple(images), metadata, options.label_map, options.views, options.size, remote
    )
    labels = read_build_labels(reading, options.split, options.seed)
    if options.public:
        check_private(labels.facts.dataset.terms, "--to", private=False)
    usable, bad = sort_out(labels)
    if options.ignore_times:
        usable = [item.without_time() for item in usable]
    _check_bad(bad, len(usable) + len(bad), options.max_bad)
    if not usable:
        raise ChexError(f"none of {len(bad)} images is usable; the first: {bad[0].name}: {bad[0].reason}")
    size = ShardSize(options.shard_bytes, options.size, options.encoding)
    shards = plan_shards(((item.split, item) for item in usable), lambda item: item.name, size)
    return _Plan(labels.facts, options, tuple(bad), shards)


def _check_same(built: Manifest, planned: _Plan, out: Path) -> None:
    facts, options = planned.facts, planned.options
    made = (built.source, built.split, built.size, built.encoding, built.images + len(built.bad))
    same = built.dataset in (None, facts.dataset)  # formats before 3 do not name it
    if not same or made != (facts.source, facts.rule, options.size, options.encoding, planned.total):
        raise UsageError(f"{out} contains shards of other images or options; name another folder to work in")
    known = _images_of(out)
    if known.exists() and known.read_text(encoding="utf-8") != planned.images_sha256:
        raise UsageError(f"{out} contains shards of images that have changed since; name another folder to work in")


def _make_all(planned: _Plan, output: Output, make: Make, session: BuildSession | None) -> Ledger:
    """Make the shards that `output` lacks."""
    recipe, options = planned.recipe, planned.options
    ledger = open_ledger(output, {shard.path: recipe.key(shard) for shard in planned.shards})
    bad = [*planned.bad, *ledger.bad]
    _check_bad(bad, planned.total, options.max_bad)
    if session is not None:
        session.begins(planned.usable, ledger)
    there = {one.shard.path for one in ledger.finished}
    missing = tuple(shard for shard in planned.shards if shard.path not in there)
    done = sum(len(shard.images) for shard in planned.shards if shard.path in there)
    with Progress("building", planned.usable, "images", done) as progress:

        def seen(images: int, unusable: Sequence[BadImage]) -> None:
            if session is not None and session.should_stop():
                raise Stopped(f"the build was stopped; {ledger.rows:,} images are in finished shards")
            bad.extend(unusable)
            _check_bad(bad, planned.total, options.max_bad)
            progress.advance(images)

        for built in make(Work(missing, recipe, output, options.workers, seen)):
            ledger = ledger.plus(built)
            if session is not None:
                session.finished(ledger)
    return ledger


def _check_bad(bad: list[BadImage], total: int, max_bad: float) -> None:
    if len(bad) <= max_bad * total:
        return
    shown = "; ".join(f"{image.name}: {image.reason}" for image in bad[:3])
    raise ChexError(
        f"{len(bad)} of {total} images are bad, more than --max-bad {max_bad:g} allows: {shown}"
        f"{'; …' if len(bad) > 3 else ''}; fix them or raise --max-bad"
    )
