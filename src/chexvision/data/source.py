"""Where the shards of a run are: a folder, or a Hub dataset at a sha fetched into the Hub's cache."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from chexvision.errors import UsageError
from chexvision.hub.reference import Reference
from chexvision.shards.download import download_shards
from chexvision.shards.manifest import MANIFEST_NAME, read_manifest
from chexvision.shards.schema import list_shards


@dataclass(frozen=True, slots=True)
class ShardSource:
    """Shards that are on this machine.

    Args:
        name: what to call them in records: ``USER/NAME@sha``, or the folder.
        shards: the Parquet files of each split, in order.
        identity: equal for equal shards; changes when any of them does.
        drawn: whether the pictures are drawn, not taken of patients.
    """

    name: str
    shards: dict[str, list[Path]]
    identity: str
    drawn: bool


def find_shards(reference: Reference) -> ShardSource:
    """Locate the shards of `reference`, fetching them first if they are on the Hub.

    Raises:
        UsageError: a Hub dataset is not pinned to a sha, or a folder has no shards.
        ChexError: the download failed, or a shard is not what it must be.
    """
    if isinstance(reference, Path):
        shards = list_shards(reference)
        identity = _folder_identity(reference, shards)
        return ShardSource(str(reference.resolve()), shards, identity, _is_drawn(reference))
    check_named(reference)
    folder = download_shards(reference)
    return ShardSource(str(reference), list_shards(folder), str(reference), _is_drawn(folder))


def check_named(reference: Reference) -> None:
    """See, before anything is loaded or fetched, that `reference` can name shards.

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


def _is_drawn(folder: Path) -> bool:
    manifest = read_manifest(folder)
    return manifest is not None and manifest.source.kind == "drawn"


def _folder_identity(folder: Path, shards: dict[str, list[Path]]) -> str:
    """A digest of the manifest and of every shard's name, size and time of change."""
    digest = hashlib.sha256()
    manifest = folder / MANIFEST_NAME
    if manifest.is_file():
        digest.update(manifest.read_bytes())
    for split in sorted(shards):
        for path in shards[split]:
            stat = path.stat()
            digest.update(f"{split}/{path.name}:{stat.st_size}:{stat.st_mtime_ns};".encode())
    return digest.hexdigest()
