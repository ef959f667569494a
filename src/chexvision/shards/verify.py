"""Whether a shard folder still matches its manifest, and whether its shards are valid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from chexvision.errors import UsageError
from chexvision.files.atomic import sha256_of
from chexvision.hub.reference import RepoRef
from chexvision.images.radiograph import decode_grey
from chexvision.labels import LabelCounts, LabelSpace
from chexvision.parallel import map_in_order
from chexvision.shards.columns import BadShard, ShardPlace, folder_place, label_texts, opened_shard
from chexvision.shards.manifest import FileEntry, Manifest, RemoteFile, ShardEntry, SplitCounts, difference
from chexvision.shards.remote import fetch_file, hub_place, list_files
from chexvision.shards.schema import LABEL_COLUMNS, Columns, arrow_schema
from chexvision.shards.split import shared_patients

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Check:
    """One condition, and the problems that violate it."""

    name: str
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        if self.ok:
            return f"ok      {self.name}"
        more = f" (and {len(self.problems) - _SHOWN} more)" if len(self.problems) > _SHOWN else ""
        return f"failed  {self.name}: {'; '.join(self.problems[:_SHOWN])}{more}"


@dataclass(slots=True)
class _Contents:
    """The contents of the readable shards."""

    readable: dict[str, int] = field(default_factory=dict)  # rows of each shard, by path
    schema: list[str] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    patients: dict[str, list[int | None]] = field(default_factory=dict)
    counts: dict[str, LabelCounts] = field(default_factory=dict)
    filenames: Counter[str] = field(default_factory=Counter)


def verify_shards(folder: Path, *, sample: int, seed: int, workers: int) -> Iterator[Check]:
    """Check a shard folder; yields each `Check` when it is done.

    Args:
        folder: with `manifest.json` and ``data/``.
        sample: number of images to decode, spread over all shards; 0 for all of them.
        seed: chooses them.
        workers: threads that decode.

    Raises:
        UsageError: the folder is missing or has no manifest.
        ChexError: the manifest cannot be read.
    """
    place = folder_place(folder)
    manifest = place.manifest
    if manifest is None:
        raise UsageError(
            f"{folder} has no manifest.json; build shards with chexvision shards build, or see what these "
            f"contain with: chexvision shards info {folder}"
        )
    files = {entry.path: folder / entry.path for entry in manifest.all_files if (folder / entry.path).is_file()}
    data = [path.relative_to(folder).as_posix() for path in sorted((folder / "data").glob("*"))]

    def problem(entry: FileEntry | ShardEntry) -> str | None:
        path, size = files[entry.path], files[entry.path].stat().st_size
        return difference(entry, size, sha256_of(path) if size == entry.bytes else None)

    contents = yield from _check_files(place, manifest, files, data, problem)
    yield from _check_contents(contents, manifest)
    decoded, problems = _decode_sample(folder, contents.readable, manifest, sample, seed, workers)
    yield Check(f"{decoded} images decode", tuple(problems))


def verify_remote(reference: RepoRef) -> Iterator[Check]:
    """Check a dataset on the Hub against its manifest by the Hub's listing and all columns but the images.

    Args:
        reference: pinned to a sha.

    Raises:
        UsageError: it has no manifest.
        ChexError: it cannot be fetched, or the manifest cannot be read.
    """
    files = list_files(reference)
    place = hub_place(reference, files)
    manifest = place.manifest
    if manifest is None:
        raise UsageError(
            f"{reference} has no manifest.json to check it against; see what it contains, and which patients its "
            f"splits share, with: chexvision shards info {reference}"
        )
    data = [path for path in files if path.startswith("data/")]
    contents = yield from _check_files(place, manifest, files, data, partial(listed_otherwise, reference, files))
    yield from _check_contents(contents, manifest)


def listed_otherwise(
    reference: RepoRef, files: Mapping[str, RemoteFile], entry: FileEntry | ShardEntry
) -> str | None:
    """How a file of a dataset on the Hub differs from its entry in the manifest; None where it is the same.

    Small files are not stored by LFS: the Hub has no SHA-256 of them, so they are fetched.
    """
    file = files.get(entry.path)
    if file is None:
        return f"{entry.path} is missing"
    sha256 = file.sha256
    if sha256 is None and file.bytes == entry.bytes:
        path = fetch_file(reference, entry.path)
        sha256 = sha256_of(path) if path is not None else "nothing"
    return difference(entry, file.bytes, sha256)


def _check_files(
    place: ShardPlace,
    manifest: Manifest,
    files: Collection[str],
    data: Iterable[str],
    problem: Callable[[FileEntry | ShardEntry], str | None],
) -> Generator[Check, None, _Contents]:
    """Check the files themselves, and read the shards that are as they were written."""
    missing = [f"{entry.path} is missing" for entry in manifest.all_files if entry.path not in files]
    yield Check("files present", tuple(missing))
    known = {entry.path for entry in manifest.shards}
    yield Check("no further shards", tuple(f"{name} is not in the manifest" for name in data if name not in known))
    found = {entry.path: problem(entry) for entry in manifest.all_files if entry.path in files}
    yield Check("hashes", tuple(filter(None, found.values())))
    return _read_contents(place, [entry for entry in manifest.shards if found.get(entry.path, "missing") is None])


def _check_contents(contents: _Contents, manifest: Manifest) -> Iterator[Check]:
    yield Check("schema", tuple(contents.schema))
    yield Check("labels", tuple(contents.labels))
    yield Check("counts", tuple(contents.rows + _miscounted(contents, manifest)))
    yield Check(
        "file names are unique", tuple(f"{n} occurs {k} times" for n, k in contents.filenames.items() if k > 1)
    )
    patients = {split: [patient for patient in of if patient is not None] for split, of in contents.patients.items()}
    yield Check("patients in one split each", tuple(map(str, shared_patients(patients))))


def _read_contents(place: ShardPlace, shards: list[ShardEntry]) -> _Contents:
    contents = _Contents()

    def read(entry: ShardEntry) -> tuple[ShardEntry, pa.Schema, pa.Table] | str:
        try:
            return entry, *place.read(entry.path, ["filename", *LABEL_COLUMNS, "patient_id"])
        except BadShard as error:
            return str(error)

    for found in map_in_order(read, shards, place.readers):
        if isinstance(found, str):
            contents.schema.append(found)
        else:
            _add_shard(contents, place.label_space, *found)
    return contents


def _add_shard(contents: _Contents, space: LabelSpace, entry: ShardEntry, schema: pa.Schema, rows: pa.Table) -> None:
    columns = Columns.among(schema.names)
    if not schema.equals(arrow_schema(columns), check_metadata=True):
        expected = ", ".join(name for name, _ in columns.in_order()[1:])
        contents.schema.append(f"{entry.path} has other columns than {expected} and image")
        return
    contents.readable[entry.path] = rows.num_rows
    if rows.num_rows != entry.rows:
        contents.rows.append(f"{entry.path} has {rows.num_rows} rows, expected {entry.rows}")
    names = rows["filename"].to_pylist()
    contents.patients.setdefault(entry.split, []).extend(rows["patient_id"].to_pylist())
    contents.filenames.update(names)
    counts = contents.counts.setdefault(entry.split, LabelCounts(space))
    for name, labels in zip(names, label_texts(rows), strict=True):
        try:
            counts.add(space.values(*labels))
        except ValueError as error:
            contents.labels.append(f"{name}: {error}")


def _miscounted(contents: _Contents, manifest: Manifest) -> list[str]:
    problems = []
    for split in sorted({*manifest.splits, *contents.counts}):
        expected = manifest.splits.get(split)
        found = contents.counts.get(split, LabelCounts(manifest.label_space))
        patients = contents.patients.get(split, [])
        counts = SplitCounts(len(patients), len(set(patients)), found.findings, found.open_labels)
        if counts != expected:
            problems.append(f"{split} has {_differences(counts, expected)}")
    return problems


def _differences(counts: SplitCounts, expected: SplitCounts | None) -> str:
    if expected is None:
        return f"{counts.images} images, expected none"
    pairs = [("images", counts.images, expected.images), ("patients", counts.patients, expected.patients)]
    pairs += [(name, count, expected.findings.get(name, 0)) for name, count in counts.findings.items()]
    pairs += [
        (f"uncertain or unknown {name}", counts.open_labels.get(name, 0), expected.open_labels.get(name, 0))
        for name in counts.findings
    ]
    return ", ".join(f"{held} {name}, expected {wanted}" for name, held, wanted in pairs if held != wanted)


def _decode_sample(
    folder: Path, shards: dict[str, int], manifest: Manifest, sample: int, seed: int, workers: int
) -> tuple[int, list[str]]:
    total = sum(shards.values())
    count = min(sample or total, total)
    chosen = np.zeros(total, dtype=bool)
    chosen[np.random.default_rng(seed).choice(total, size=count, replace=False)] = True

    def problem(image: tuple[str, bytes | None]) -> str | None:
        name, data = image
        try:
            shape = decode_grey(data or b"").shape
        except ValueError as error:
            return f"{name}: {error}"
        size = (manifest.size, manifest.size)
        return None if shape == size else f"{name}: {shape[1]}×{shape[0]} pixels, expected {size[0]}×{size[1]}"

    try:
        results = map_in_order(problem, _chosen_images(folder, shards, chosen), workers)
        return count, [result for result in results if result]
    except BadShard as error:
        return count, [str(error)]


def _chosen_images(
    folder: Path, shards: Iterable[str], chosen: NDArray[np.bool_]
) -> Iterator[tuple[str, bytes | None]]:
    start = 0
    for path in shards:
        with opened_shard(folder / path, path) as file:
            for group in range(file.num_row_groups):
                stop = start + file.metadata.row_group(group).num_rows
                picked = np.flatnonzero(chosen[start:stop])
                start = stop
                if picked.size:
                    rows = file.read_row_group(group, columns=["filename", "image"]).take(picked)
                    images = rows["image"].combine_chunks().field("bytes").to_pylist()
                    yield from zip(rows["filename"].to_pylist(), images, strict=True)
