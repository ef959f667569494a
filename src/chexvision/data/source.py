"""The shards of a run: in a folder, or of a Hub dataset at a sha, fetched into the Hub's cache."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from chexvision.errors import ChexError, UsageError
from chexvision.files.hashes import Hashes
from chexvision.hub.reference import Reference
from chexvision.labels import NIH, LabelSpace
from chexvision.shards.download import download_shards
from chexvision.shards.manifest import Manifest, ShardEntry, difference, label_space_of, read_manifest
from chexvision.shards.schema import list_shards

_ADVICE = "`chexvision shards verify` lists all differences; build or fetch the shards again"


@dataclass(frozen=True, slots=True)
class ShardSource:
    """Shards that are on this machine.

    Args:
        name: their name in records: ``USER/NAME@sha``, or the folder.
        shards: the Parquet files of each split, in order.
        identity: equal for shards of equal names and content, in any folder.
        synthetic: whether the images are synthetic, not taken of patients.
        label_space: of the labels.
    """

    name: str
    shards: dict[str, list[Path]]
    identity: str
    synthetic: bool
    label_space: LabelSpace = NIH


def find_shards(reference: Reference) -> ShardSource:
    """Locate the shards of `reference`, fetching them first if they are on the Hub.

    Raises:
        UsageError: a Hub dataset is not pinned to a sha, or a folder has no shards.
        ChexError: the download failed, or a shard is not valid.
    """
    if isinstance(reference, Path):
        return _source(str(reference.resolve()), reference)
    check_named(reference)
    return _source(str(reference), download_shards(reference))


def _source(name: str, folder: Path) -> ShardSource:
    shards, manifest = list_shards(folder), read_manifest(folder)
    synthetic = manifest is not None and manifest.synthetic
    return ShardSource(name, shards, _identity(shards, name, manifest), synthetic, label_space_of(manifest))


def check_named(reference: Reference) -> None:
    """Check, before anything is loaded or fetched, that `reference` can name shards.

    Raises:
        UsageError: a Hub dataset is not pinned to a sha, or a folder has no shards.
    """
    if isinstance(reference, Path):
        list_shards(reference)
    elif not reference.is_pinned:
        raise UsageError(
            f"dataset {reference} is not pinned: name its 40-digit commit sha, {reference.repo_id}@<sha>, "
            "so that the run can be repeated (`chexvision dispatch` looks it up)"
        )


def _identity(shards: dict[str, list[Path]], name: str, manifest: Manifest | None) -> str:
    """A digest of every shard's split, name and content.

    Not of the manifest's hashes: decoded images are found by the identity, and must never be those of a shard that
    was altered without updating the manifest.
    """
    named = [(split, path) for split in sorted(shards) for path in shards[split]]
    hashes = _shard_hashes([path for _, path in named], name, manifest)
    digest = hashlib.sha256()
    for (split, path), sha256 in zip(named, hashes, strict=True):
        digest.update(f"{split}/{path.name}:{sha256}\n".encode())
    return digest.hexdigest()


def _shard_hashes(paths: list[Path], where: str, manifest: Manifest | None) -> list[str]:
    """SHA-256 of each shard, equal to the manifest's where there is one.

    Names and sizes are compared first. Reading a file for its hash takes a second per gigabyte or less on a
    fast disk, and only once: it is cached until the file changes.
    """
    if manifest is None:
        return Hashes().of_all(paths, "hashing shards")
    entries = {PurePosixPath(entry.path).name: entry for entry in manifest.shards}
    _refuse(where, "is missing", entries.keys() - {path.name for path in paths})
    _refuse(where, "is not in its manifest.json", {path.name for path in paths} - entries.keys())
    for path in paths:
        _check(where, entries[path.name], path, entries[path.name].sha256)
    hashes = Hashes().of_all(paths, "checking shards")
    for path, sha256 in zip(paths, hashes, strict=True):
        _check(where, entries[path.name], path, sha256)
    return hashes


def _refuse(where: str, what: str, names: Iterable[str]) -> None:
    if listed := sorted(names):
        raise ChexError(f"{where}: {listed[0]} {what} ({len(listed)} in all); {_ADVICE}")


def _check(where: str, entry: ShardEntry, path: Path, sha256: str) -> None:
    problem = difference(entry, path.stat().st_size, sha256)
    if problem is not None:
        raise ChexError(f"{where}: {problem}; {_ADVICE}")
