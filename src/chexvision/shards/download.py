"""The shards of a pinned dataset, fetched into the Hub's cache and checked against their hashes."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict
from functools import partial
from pathlib import Path, PurePosixPath

from chexvision.errors import ChexError
from chexvision.files.atomic import write_text_atomic
from chexvision.files.hashes import Hashes
from chexvision.hub.reference import RepoRef
from chexvision.layout import cache_dir
from chexvision.parallel import map_as_completed
from chexvision.progress import Progress
from chexvision.shards.manifest import MANIFEST_NAME, RemoteFile, difference, read_manifest
from chexvision.shards.remote import fetch_file, fetch_manifest, list_files, without_client_bars
from chexvision.shards.schema import group_shards

_AT_ONCE = 4


def download_shards(reference: RepoRef, needed: Collection[int] | None = None) -> Path:
    """Fetch the shards that the cache lacks, several at a time, and check all of them once.

    A shard whose bytes are wrong is fetched once more. A shard that was right is not hashed again as long as
    its file keeps its size and modification time.

    Args:
        reference: pinned to a sha.
        needed: the numbers of the shards, all splits one after another; None, or without a manifest: all.

    Returns:
        The dataset's folder in the Hub's cache.

    Raises:
        UsageError: the dataset has no shards, or lacks some of a split.
        ChexError: it cannot be fetched, or a shard differs from the manifest or, without one, from the Hub's listing.
    """
    known = {shard.path: shard for shard in _expected(reference)}
    grouped = group_shards(known, str(reference))
    expected = [known[path] for paths in grouped.values() for path in paths]
    manifest_file = fetch_file(reference, MANIFEST_NAME) if needed is not None else None
    if needed is not None and manifest_file is not None:
        folder = manifest_file.parent
        expected = [shard for number, shard in enumerate(expected) if number in needed]
    hashes = Hashes()
    total = sum(shard.bytes for shard in expected) / 10**6
    fetch = partial(_fetch_right, reference, hashes=hashes)
    try:
        with without_client_bars(), Progress(f"fetching {reference.repo_id}", total, "MB") as progress:
            for shard, local in map_as_completed(fetch, expected, _AT_ONCE):
                folder = local.parents[len(PurePosixPath(shard.path).parts) - 1]
                progress.advance(shard.bytes / 10**6)
    finally:
        hashes.save()
    return folder


def cached_shards(reference: RepoRef) -> bool:
    """Whether all shards of a dataset are in the Hub's cache, right or not; without a request.

    Args:
        reference: pinned to a sha.
    """
    from huggingface_hub import try_to_load_from_cache

    def cached(path: str) -> Path | None:
        found = try_to_load_from_cache(reference.repo_id, path, revision=reference.revision, repo_type="dataset")
        return Path(found) if isinstance(found, str) else None

    manifest_file = cached(MANIFEST_NAME)
    manifest = read_manifest(manifest_file.parent) if manifest_file is not None else None
    paths = [shard.path for shard in (manifest.shards if manifest is not None else _Listing(reference).read())]
    return bool(paths) and all(cached(path) is not None for path in paths)


def _expected(reference: RepoRef) -> list[RemoteFile]:
    listing = _Listing(reference)
    if known := listing.read():
        return known
    manifest = fetch_manifest(reference)
    if manifest is not None:
        return [RemoteFile(shard.path, shard.bytes, shard.sha256) for shard in manifest.shards]
    files = sorted(list_files(reference).items())
    found = [file for path, file in files if path.startswith("data/") and path.endswith(".parquet")]
    listing.save(found)
    return found


def _fetch_right(reference: RepoRef, shard: RemoteFile, hashes: Hashes) -> Path:
    """The shard's path in the cache, once its bytes are right."""
    for again in (False, True):
        path = fetch_file(reference, shard.path, again=again)
        if path is None:
            raise ChexError(
                f"dataset {reference} lacks {shard.path}, which its manifest names; push it again with "
                "chexvision shards push"
            )
        size = path.stat().st_size
        checked = shard.sha256 is not None and size == shard.bytes
        problem = difference(shard, size, hashes.of(path) if checked else shard.sha256)
        if problem is None:
            return path
    raise ChexError(
        f"{reference}: shard {problem}, also when fetched again: the dataset is damaged; push it again with "
        "chexvision shards push, and name the new sha"
    )


class _Listing:
    """Which shards a dataset without a manifest has at a sha, cached so that it can be used offline too."""

    def __init__(self, reference: RepoRef) -> None:
        self._file = cache_dir() / "listings" / f"{reference.repo_id.replace('/', '--')}--{reference.revision}.json"

    def read(self) -> list[RemoteFile]:
        """Empty where nothing was kept."""
        try:
            return [RemoteFile(**shard) for shard in json.loads(self._file.read_text(encoding="utf-8"))]
        except (OSError, ValueError, TypeError):
            return []  # only a cache: the Hub is asked again

    def save(self, listing: list[RemoteFile]) -> None:
        write_text_atomic(self._file, json.dumps([asdict(shard) for shard in listing], indent=1) + "\n")
