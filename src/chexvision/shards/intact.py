"""Whether the shards that are about to be used are those of their folder's manifest."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from chexvision.errors import ChexError
from chexvision.files.hashes import Hashes
from chexvision.shards.manifest import Manifest, ShardEntry, difference

_ADVICE = "`chexvision shards verify` lists all differences; build or fetch the shards again"


def shard_hashes(paths: list[Path], where: str, manifest: Manifest | None) -> list[str]:
    """SHA-256 of each shard, equal to the manifest's where there is one.

    Names and sizes are compared first. Reading a file for its hash takes a second per gigabyte or less on a
    fast disk, and only once: it is cached until the file changes.

    Args:
        paths: all shards of a folder.
        where: the folder, for messages.
        manifest: of the folder.

    Raises:
        ChexError: a shard is missing, is not in the manifest, or is not the one that the manifest names.
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
